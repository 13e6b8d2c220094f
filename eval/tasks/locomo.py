"""LoCoMo: long conversations of two people over months, and questions with their evidence.

Maharana et al. (2024), "Evaluating very long-term conversational memory of LLM agents"; one file,
locomo10.json. A turn is what one person said, with the caption of a picture where there is one.
The kinds are named as in the paper's code. Adversarial questions ask about one speaker what is true
of the other; their evidence is where the trap comes from, so they are a kind of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from persona_agent.errors import InputError
from persona_agent.eval.tasks.probes import Probe, ProbeSet
from persona_agent.eval.tasks.tables import field, items, json_of
from persona_agent.types import Interaction, Scope

KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
ADVERSARIAL = KINDS[5]
SESSION = re.compile(r"session_(\d+)")
PLACE = re.compile(r"D:?(\d+):(\d+)")  # "D8:6; D9:17" and "D:11:26" are in the file, too
SPOKEN = "%I:%M %p on %d %B, %Y"  # 1:56 pm on 8 May, 2023


def locomo(data: Path) -> ProbeSet:
    """Return LoCoMo from the folder of all data: one user a conversation.

    What names no evidence, or a turn that is not there, is left out and counted.
    Raises InputError for a file of another shape.
    """
    memories: dict[str, tuple[Interaction, ...]] = {}
    probes: list[Probe] = []
    left_out: Counter[str] = Counter()
    path = data / "locomo" / "locomo10.json"
    for number, sample in enumerate(items(json_of(path), path.name)):
        where = f"{path.name} sample {number}"
        user = field(sample, "sample_id", str, where)
        lived = tuple(_turns(field(sample, "conversation", dict, where), user, where))
        memories[user] = lived
        known = {one.id for one in lived}
        for asked in items(field(sample, "qa", list, where), f"qa of {where}"):
            probe = _probe(asked, user, where)
            if not probe.evidence:
                left_out["names no evidence"] += 1
            elif probe.evidence - known:
                left_out["its evidence is not in the conversation"] += 1
            else:
                probes.append(probe)
    return ProbeSet("locomo", memories, tuple(probes), dict(left_out))


def _turns(conversation: Any, user: str, where: str) -> Iterator[Interaction]:
    sessions = sorted(int(m[1]) for key in conversation if (m := SESSION.fullmatch(key)))
    for session in sessions:
        name = f"session_{session}"
        spoken = field(conversation, f"{name}_date_time", str, where)
        try:
            begin = datetime.strptime(spoken, SPOKEN).replace(tzinfo=UTC)
        except ValueError as error:
            raise InputError(f"{name} of {where}: {error}") from error
        for second, turn in enumerate(items(conversation[name], f"{name} of {where}")):
            here = f"turn {second} of {name} of {where}"
            said = f"{field(turn, 'speaker', str, here)}: {field(turn, 'text', str, here)}"
            if "blip_caption" in turn:
                said += f" [shows {field(turn, 'blip_caption', str, here)}]"
            yield Interaction(
                Scope(user),
                begin + timedelta(seconds=second),
                said,
                id=field(turn, "dia_id", str, here),
            )


def _probe(asked: Any, user: str, where: str) -> Probe:
    number = field(asked, "category", int, f"a question of {where}")
    if number not in KINDS:
        raise InputError(f"a question of {where} has category {number}; 1 to 5 are known")
    places = PLACE.findall(" ".join(map(str, asked.get("evidence", ()))))
    return Probe(
        user,
        field(asked, "question", str, f"a question of {where}"),
        frozenset(f"D{int(session)}:{int(turn)}" for session, turn in places),
        KINDS[number],
        user,
    )
