"""LaMP: seven tasks of personal text, from the official files (Salemi et al. 2024).

A question has an input and the profile of its user, and an output in a second file. The profile
becomes the history: what was written about or to, and what the user made of it. LaMP-6 needs a
corpus under licence and is left out. The data is not here: its address is in docs/tasks.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from persona_agent import prompts
from persona_agent.errors import InputError
from persona_agent.eval.tasks.tables import field, items, json_of
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.task import Task
from persona_agent.types import Interaction, Json, Record, Scope

TAGS = (
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
)
CATEGORIES = (
    "travel",
    "education",
    "parents",
    "style & beauty",
    "entertainment",
    "food & drink",
    "science & technology",
    "business",
    "sports",
    "healthy living",
    "women",
    "politics",
    "crime",
    "culture & arts",
    "religion",
)
STARS = ("1", "2", "3", "4", "5")
REFERENCES = ("[1]", "[2]")
LABELLED, ROUGE = ("accuracy", "macro_f1"), ("rouge_1", "rouge_l")
UNDATED = datetime(2000, 1, 1, tzinfo=UTC)  # a profile without dates has an order: a minute each
TOLD = timedelta(days=1)  # from the end of a profile to the question


@dataclass(frozen=True, slots=True)
class Kind(Record):
    """One task of LaMP: how its files call things, and what it asks.

    `text` and `label` are the fields of a profile item that become query and outcome; `text` is
    None where there is only what the user wrote. `after` marks where the text begins in an input;
    None where the whole input is the query. `options` are on the questions.
    """

    name: str
    number: int
    task: Task
    text: str | None
    label: str
    after: str | None
    metrics: tuple[str, ...]
    options: tuple[str, ...] = ()
    title: bool = False
    labels: tuple[str, str] | None = None


KINDS: Mapping[str, Kind] = {
    one.name: one
    for one in (
        Kind(
            "1",
            1,
            Task("citation", query_label="Question", outcome_label="Reference", item_name="paper"),
            "abstract",
            "title",
            None,
            LABELLED,
            options=REFERENCES,
            labels=("Abstract", "Title of a paper they wrote"),
        ),
        Kind(
            "2m",
            2,
            Task("tag", query_label="Film", outcome_label="Tag", options=TAGS, item_name="film"),
            "description",
            "tag",
            "description:",
            LABELLED,
        ),
        Kind(
            "2n",
            2,
            Task(
                "category",
                query_label="Article",
                outcome_label="Category",
                options=CATEGORIES,
                item_name="article",
            ),
            "text",
            "category",
            "article:",
            LABELLED,
            title=True,
        ),
        Kind(
            "3",
            3,
            Task(
                "score",
                query_label="Review",
                outcome_label="Score",
                options=STARS,
                numeric=True,
                item_name="product",
            ),
            "text",
            "score",
            "review:",
            ("mae", "rmse"),
        ),
        Kind(
            "4",
            4,
            Task("headline", query_label="Article", outcome_label="Headline", item_name="article"),
            "text",
            "title",
            "article:",
            ROUGE,
        ),
        Kind(
            "5",
            5,
            Task("title", query_label="Abstract", outcome_label="Title", item_name="paper"),
            "abstract",
            "title",
            "paper:",
            ROUGE,
        ),
        Kind(
            "7",
            7,
            Task("tweet", query_label="Tweet", outcome_label="In their words", item_name="tweet"),
            None,
            "text",
            ":",
            ROUGE,
            labels=("Occasion", "Tweet they wrote"),
        ),
    )
}


def lamp(name: str, path: Path) -> TaskSet:
    """Return a task of LaMP, one of `KINDS`, from a questions file or the folder that holds it.

    In a folder dev_questions.json is taken, or the only *_questions.json; the outputs lie beside
    it, named so. Every question is a user of its own, since each brings its own profile: by its
    user_id where that is there once, else with the question's id. A profile is put in time order
    by its dates, as official code does; without dates it stays in its order, with times made up.
    The question is a day later. Metadata keeps the input as LaMP asks it.

    Raises ValueError for an unknown task, InputError for files of another shape.
    """
    if name not in KINDS:
        raise ValueError(f"there is no LaMP task {name!r}; there are {', '.join(KINDS)}")
    kind = KINDS[name]
    questions = _questions_file(path)
    answers = _outputs(questions.with_name(questions.name.replace("_questions", "_outputs")), kind)
    asked = items(json_of(questions), questions.name)
    owners = Counter(str(one.get("user_id", "")) for one in asked if isinstance(one, dict))
    histories: dict[str, tuple[Interaction, ...]] = {}
    queries = []
    for number, question in enumerate(asked):
        where = f"question {number} of {questions.name}"
        own = str(field(question, "id", (str, int), where))
        owner = str(question.get("user_id", ""))
        scope = Scope("/".join((f"lamp-{name}", *_user(owner, own, owners))))
        if own not in answers:
            raise InputError(f"{where} has id {own!r}, for which there is no output")
        profile = items(field(question, "profile", list, where), f"the profile of {where}")
        history = _history(kind, profile, scope, where)
        histories[scope.user] = history
        queries.append(
            _query(
                kind,
                field(question, "input", str, where),
                answers[own],
                scope,
                (history[-1].when if history else UNDATED) + TOLD,
                where,
            )
        )
    instruction = prompts.text("lamp", f"ask_{name}")
    return TaskSet(f"lamp-{name}", kind.task, histories, tuple(queries), instruction, kind.metrics)


def body(kind: Kind, text: str) -> str | None:
    """Return what stands after the marker in an input; all of it where there is no marker.

    None if the marker is missing. LaMP-5 asks for a title of the "abstract of a paper:"; there is
    official code for inputs with "abstract:", too, so that is taken where there is no "paper:".
    """
    if kind.after is None:
        return text
    markers = ("paper:", "abstract:") if kind.name == "5" else (kind.after,)
    for marker in markers:
        _, found, rest = text.partition(marker)
        if found:
            return rest.strip()
    return None


def _user(owner: str, own: str, owners: Counter[str]) -> tuple[str, ...]:
    if not owner:
        return (own,)
    return (owner,) if owners[owner] == 1 else (owner, own)


def _questions_file(path: Path) -> Path:
    if not path.is_dir():
        if "_questions" not in path.name:
            raise InputError(f"{path} is no folder; name a folder or a file *_questions.json")
        return path
    found = sorted(path.glob("*_questions.json"))
    for one in found:
        if one.name == "dev_questions.json" or len(found) == 1:
            return one
    names = ", ".join(one.name for one in found) or "none"
    raise InputError(
        f"{path} must hold dev_questions.json, or one *_questions.json; it has {names}"
    )


def _outputs(path: Path, kind: Kind) -> dict[str, str]:
    read = json_of(path)
    task = field(read, "task", str, path.name)
    if task != f"LaMP_{kind.number}":
        raise InputError(f"{path.name} is of task {task!r}; LaMP_{kind.number} is due")
    answers = {}
    for number, one in enumerate(items(field(read, "golds", list, path.name), path.name)):
        where = f"output {number} of {path.name}"
        answers[str(field(one, "id", (str, int), where))] = str(
            field(one, "output", (str, int), where)
        )
    return answers


def _history(
    kind: Kind, profile: Sequence[Any], scope: Scope, where: str
) -> tuple[Interaction, ...]:
    dated = sum("date" in one for one in profile)
    if dated not in (0, len(profile)):
        raise InputError(
            f"{dated} of {len(profile)} profile items of {where} have a date; all must"
        )
    places = [f"profile item {number} of {where}" for number in range(len(profile))]
    whens = [
        _date(one["date"], place) if dated else UNDATED
        for one, place in zip(profile, places, strict=True)
    ]
    order = sorted(range(len(profile)), key=lambda at: whens[at])  # stable: of a day as in the file
    step = timedelta(seconds=1) if dated else timedelta(minutes=1)
    return tuple(
        _written(kind, profile[at], scope, whens[at] + turn * step, places[at])
        for turn, at in enumerate(order)
    )


def _date(value: Any, where: str) -> datetime:
    """Return a date as LaMP writes them: year, year-month, year-month-day."""
    try:
        year, month, day = ([int(part) for part in str(value).split("-")] + [1, 1])[:3]
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError as error:
        raise InputError(f"date {value!r} of {where} is none: {error}") from error


def _written(kind: Kind, one: Any, scope: Scope, when: datetime, where: str) -> Interaction:
    label = str(field(one, kind.label, (str, int), where)).strip()
    text = "" if kind.text is None else field(one, kind.text, str, where)
    if not label:
        raise InputError(f"{kind.label!r} of {where} is empty")
    if kind.task.options and label not in kind.task.options:
        raise InputError(f"{kind.label!r} of {where} is {label!r}; LaMP lists no such label")
    known: dict[str, Json] = {"title": field(one, "title", str, where)} if kind.title else {}
    if kind.labels is not None:
        known = {"query_label": kind.labels[0], "outcome_label": kind.labels[1]}
    identity = str(field(one, "id", (str, int), where))
    return Interaction(scope, when, text, label, item=identity, metadata=known, id=f"p-{identity}")


def _query(
    kind: Kind, given: str, truth: str, scope: Scope, when: datetime, where: str
) -> Interaction:
    text = body(kind, given)
    if text is None:
        raise InputError(f"the input of {where} has no {kind.after!r}: {given[:80]!r}")
    options = kind.options or kind.task.options
    if options and truth not in options:
        raise InputError(f"the output of {where} is {truth!r}; it must be one of {list(options)!r}")
    return Interaction(
        scope, when, text, truth, options=kind.options, metadata={"input": given}, id="question"
    )
