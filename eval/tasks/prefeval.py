"""PrefEval: a preference, then many turns about other things, then a question that it bears on.

Zhao et al. (2025), "Do LLMs recognize your preferences?". The usual answer to the question violates
the preference. Two tests need no judge: whether memory finds the preference among the turns
(`prefeval`), and which of four options the user would take (`prefeval_choice`).

A preference is stated (explicit), or shows in what the user picks from options (choice-based).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from persona_agent import prompts
from persona_agent.errors import InputError
from persona_agent.eval.tasks.probes import Probe, ProbeSet
from persona_agent.eval.tasks.tables import field, items, json_of
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.task import Task
from persona_agent.types import Interaction, Scope

Form: TypeAlias = Literal["explicit", "choice-based"]
FORMS: tuple[Form, ...] = get_args(Form)
FOLDERS = {"explicit": "explicit_preference", "choice-based": "implicit_preference/choice-based"}
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)  # the data has an order and no times: a minute a turn
OPTIONS = 4


def prefeval(data: Path) -> ProbeSet:
    """Return both forms of every item as questions to memory: one user an item and form.

    What is remembered begins with the preference, in one turn, and goes on with the 316 turns that
    PrefEval puts between. The evidence is that turn: for choice-based, the one in which the
    user picks. Raises InputError for files of another shape.
    """
    folder = data / "prefeval"
    between = _between(folder)
    memories: dict[str, tuple[Interaction, ...]] = {}
    probes = []
    for form in FORMS:
        for topic, number, item, where in _items(folder / FOLDERS[form]):
            user = f"{form}/{topic}/{number}"
            turns = [*_preference(item, form, where), *between]
            memories[user] = tuple(
                Interaction(
                    Scope(user),
                    BEGIN + timedelta(minutes=minute),
                    said,
                    response=answer or None,
                    id=f"t{minute}",
                )
                for minute, (said, answer) in enumerate(turns)
            )
            place = 0 if form == "explicit" else 1
            question = field(item, "question", str, where)
            probes.append(Probe(user, question, frozenset({f"t{place}"}), form, topic))
    return ProbeSet("prefeval", memories, tuple(probes), {})


def prefeval_choice(data: Path, *, turns: int = 20, seed: int = 0) -> TaskSet:
    """Return which of four options each user would take, after a stated preference.

    The history is the preference and then the first `turns` of PrefEval's turns between; a turn is
    what the assistant had said before (the query) and what the user said (the outcome). The first of
    `classification_task_options` is the one that keeps the preference; here they are shuffled.
    Raises InputError for files of another shape.
    """
    if turns < 0:
        raise ValueError(f"turns is {turns}; it must be 0 or more")
    folder = data / "prefeval"
    between = _between(folder)[:turns]
    histories: dict[str, tuple[Interaction, ...]] = {}
    queries = []
    for topic, number, item, where in _items(folder / "mcq_options"):
        user = f"{topic}/{number}"
        options = [str(one) for one in field(item, "classification_task_options", list, where)]
        if len(set(options)) != OPTIONS:
            raise InputError(f"{where} has options {options!r}; {OPTIONS} that differ are due")
        kept = options[0]
        random.Random(f"{seed}/{user}").shuffle(options)
        heard = [("", field(item, "preference", str, where)), *_heard(between)]
        histories[user] = tuple(
            Interaction(
                Scope(user),
                BEGIN + timedelta(minutes=minute),
                before,
                said,
                metadata={"query_label": "Assistant", "outcome_label": "User"},
                id=f"t{minute}",
            )
            for minute, (before, said) in enumerate(heard)
        )
        queries.append(
            Interaction(
                Scope(user),
                BEGIN + timedelta(minutes=len(heard)),
                field(item, "question", str, where),
                kept,
                options=tuple(options),
                id="question",
            )
        )
    task = Task("prefeval-choice", query_label="User", outcome_label="Best answer")
    instruction = prompts.text("tasks", "prefeval")
    metrics = ("accuracy", "mrr")
    return TaskSet("prefeval-choice", task, histories, tuple(queries), instruction, metrics)


def _items(folder: Path) -> Iterator[tuple[str, int, Any, str]]:
    """Yield topic, number, item and its place. Any: foreign data, taken apart by `field`."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(f"{folder} holds no .json file; PrefEval has one a topic there")
    for path in paths:
        for number, item in enumerate(items(json_of(path), path.name)):
            yield path.stem, number, item, f"{folder.name}/{path.name} item {number}"


def _preference(item: Any, form: Form, where: str) -> list[tuple[str, str]]:
    """Return the turns that carry the preference: what the user said, what was answered."""
    if form == "explicit":
        return [(field(item, "preference", str, where), "")]
    talk = field(item, "conversation", dict, where)
    return [
        (field(talk, "query", str, where), field(talk, "assistant_options", str, where)),
        (
            field(talk, "user_selection", str, where),
            field(talk, "assistant_acknowledgment", str, where),
        ),
    ]


def _between(folder: Path) -> list[tuple[str, str]]:
    """Return the turns between: what a user said and what was answered."""
    path = folder / "filtered_inter_turns.json"
    found = []
    for number, talk in enumerate(items(json_of(path), path.name)):
        where = f"{path.name} conversation {number}"
        said = items(field(talk, "conversation", list, where), where)
        for one, answer in zip(said[::2], said[1::2], strict=True):
            if (one.get("role"), answer.get("role")) != ("user", "assistant"):
                raise InputError(f"{where}: user and assistant must take turns")
            found.append((field(one, "content", str, where), field(answer, "content", str, where)))
    return found


def _heard(turns: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield what the assistant had said before, and what the user said then."""
    before = ""
    for said, answer in turns:
        if said:
            yield before, said
        before = answer
