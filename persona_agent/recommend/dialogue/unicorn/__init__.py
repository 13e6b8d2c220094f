"""UNICORN: which to ask or to show, learned by trial over a graph of what is still possible."""
