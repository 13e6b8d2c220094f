"""The bridge between the recommenders and the agent.

- `tools`: the agent recommends, explains and finds similar items; ids stay outside the prompt.
- `tastes`: what a recommender finds of a user becomes persona lines, by way of the gate.
- `rerank`: the model reorders a recommender's candidates, given the persona.

All of it needs the extra `recommend`.
"""
