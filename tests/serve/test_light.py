"""The server needs the extra `server` alone: nothing of the recommenders is loaded without one."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("pandas", "scipy", "torch", "sklearn", "persona_agent.recommend")


def test_importing_the_application_loads_no_recommender() -> None:
    code = "import json, sys, persona_agent.serve.app; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert [name for name in HEAVY if name in loaded] == []
