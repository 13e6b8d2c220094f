"""Recommenders: interactions and graphs in, rankings and reasons out.

    from persona_agent.recommend.data import Interactions
    from persona_agent.recommend.ease import EASE

    data = Interactions.of(["ann", "ann", "bob"], ["tea", "jam", "tea"])
    EASE(l2=1).fit(data).recommend([["jam"]], k=1).lists()  # [['tea']]

Import what you need from its module; all of them need the extra `recommend`.
"""

from importlib.util import find_spec

from persona_agent.errors import BackendError

INSTALL = 'pip install "persona-agent-framework[recommend]"'

for _needed in ("scipy", "pandas", "pyarrow", "safetensors", "threadpoolctl"):
    if find_spec(_needed) is None:
        raise BackendError(
            f"the recommenders need {_needed}, which is not installed; run: {INSTALL}"
        )
