"""Memory: the store is the truth, the index is a cache."""
