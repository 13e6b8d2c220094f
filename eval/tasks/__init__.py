"""Real tasks: what real people did, as histories and queries in time order."""
