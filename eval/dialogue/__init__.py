"""The study of ask or recommend on Last.FM*: policies against simulated users."""
