"""The study whether relations and personas stack."""
