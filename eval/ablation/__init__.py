"""Ablations: which part of what an agent knows of a person is worth what, by one command."""
