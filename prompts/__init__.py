"""Prompts: one text file a prompt, one function that renders them."""
