"""Other people's clients with a memory of their user: the OpenAI SDK, and MCP hosts."""
