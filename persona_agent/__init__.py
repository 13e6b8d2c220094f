"""Makes an LLM agent personal, and proves it."""
