"""Studies of the conversation: how well answers are read, and what remembering saves."""
