"""The conversation with a person: ask or recommend, and learn.

- `session`: a conversation with one person, kept in memory; what `PersonaAgent.chat` opens.
- `tool`: the same as a tool of the agent.
- `turn`: one turn, a program without I/O: state and words in, state and words out.

All of it needs the extra `recommend`.
"""
