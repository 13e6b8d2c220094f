"""Language models: embedded, behind an endpoint, and doubles for tests."""
