"""PRIME's CMV: which reply changed this author's mind (Zhang, Beauchamp and Wang 2025)?

A folder with history_data.json (posts of 2013 to 2022 and what was said below them),
evaluation_data.json (posts of 2023 and 2024) and target_authors_collection.json (the 41 authors).
A reply that changed the author's mind earned a delta from them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from persona_agent import prompts
from persona_agent.errors import InputError, NotEnoughData
from persona_agent.eval.tasks.negatives import shuffled
from persona_agent.eval.tasks.tables import field, items, json_of
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.task import Task
from persona_agent.types import Interaction, Record, Scope

NEGATIVES = 9
GONE = frozenset({"", "[deleted]", "[removed]"})
MACHINES = frozenset({"DeltaBot", "AutoModerator"})
METRICS = ("hit@1", "hit@3", "mrr")


@dataclass(frozen=True, slots=True)
class Keys(Record):
    """How the files call things. The layout is not published in words: these are Reddit's names.

    A post is an object; `replies` are its direct replies, objects of author, text and `delta`.
    """

    id: str = "id"
    author: str = "author"
    when: str = "created_utc"
    title: str = "title"
    text: str = "selftext"
    replies: str = "comments"
    reply_text: str = "body"
    delta: str = "delta"


@dataclass(frozen=True, slots=True)
class Post(Record):
    """A post, and the direct replies of others: those that changed the author's mind, the rest."""

    id: str
    author: str
    when: datetime
    title: str
    text: str
    convincing: tuple[str, ...]
    others: tuple[str, ...]


def cmv(
    folder: Path, *, keys: Keys = Keys(), like_in_length: bool = False, seed: int = 0
) -> TaskSet:
    """Return which of up to 10 replies changed the author's mind, for the authors that are listed.

    The wrong ones are direct replies that earned no delta, 9 at most: drawn by `seed`, or with
    `like_in_length` those nearest in length to the right one, since long replies convince more
    often. The right one is the first with a delta; others with one are left out. So are
    replies of the author and of machines, deleted ones, and posts with no right or no wrong reply.

    A history holds the author's earlier posts: with the reply that changed their mind, or else the
    view itself. What is not earlier than the author's first query is left out.
    Raises InputError for files of another shape, saying which keys there are.
    """
    authors = json_of(folder / "target_authors_collection.json")
    if not isinstance(authors, dict):
        raise InputError("target_authors_collection.json must be an object of authors")
    past = list(_posts(folder / "history_data.json", keys))
    asked = sorted(_posts(folder / "evaluation_data.json", keys), key=lambda post: post.when)
    histories: dict[str, tuple[Interaction, ...]] = {}
    queries: list[Interaction] = []
    for author in authors:
        own = [
            _query(post, like_in_length, random.Random(f"{seed}/{post.id}"))
            for post in asked
            if post.author == author and post.convincing and post.others
        ]
        if not own:
            continue
        queries += own
        histories[author] = tuple(
            _remembered(post)
            for post in sorted(past, key=lambda post: post.when)
            if post.author == author and post.when < own[0].when
        )
    if not queries:
        raise NotEnoughData(
            f"no post of the {len(authors)} authors has a reply with {keys.delta!r} and one without"
        )
    task = Task(
        "delta", query_label="View", outcome_label="Reply that changed it", item_name="view"
    )
    instruction = prompts.text("tasks", "cmv")
    return TaskSet("cmv", task, histories, tuple(queries), instruction, METRICS)


def _posts(path: Path, keys: Keys) -> Iterator[Post]:
    for number, post in enumerate(items(json_of(path), path.name)):
        where = f"post {number} of {path.name}"
        author = field(post, keys.author, str, where)
        seconds = field(post, keys.when, (int, float, str), where)
        try:
            when = datetime.fromtimestamp(float(seconds), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise InputError(f"{keys.when!r} of {where} is {seconds!r}: {error}") from error
        sides: dict[bool, list[str]] = {True: [], False: []}
        for place, reply in enumerate(items(field(post, keys.replies, list, where), where)):
            here = f"reply {place} of {where}"
            text = field(reply, keys.reply_text, str, here).strip()
            writer = field(reply, keys.author, str, here)
            if text not in GONE and writer not in MACHINES | {author}:
                sides[bool(reply.get(keys.delta))].append(text)
        convincing = tuple(dict.fromkeys(sides[True]))
        yield Post(
            str(field(post, keys.id, (str, int), where)),
            author,
            when,
            field(post, keys.title, str, where),
            field(post, keys.text, str, where),
            convincing,
            tuple(text for text in dict.fromkeys(sides[False]) if text not in convincing),
        )


def _query(post: Post, like_in_length: bool, rng: random.Random) -> Interaction:
    right = post.convincing[0]
    wrong: Sequence[str] = post.others
    if len(wrong) > NEGATIVES:
        wrong = (
            sorted(wrong, key=lambda text: abs(len(text) - len(right)))[:NEGATIVES]
            if like_in_length
            else rng.sample(wrong, NEGATIVES)
        )
    return Interaction(
        Scope(post.author),
        post.when,
        _view(post),
        right,
        options=shuffled(right, wrong, rng),
        id=post.id,
    )


def _remembered(post: Post) -> Interaction:
    if post.convincing:
        query, outcome, label = _view(post), post.convincing[0], "Reply that changed it"
    else:
        query, outcome, label = post.title, post.text or post.title, "What they wrote"
    return Interaction(
        Scope(post.author), post.when, query, outcome, metadata={"outcome_label": label}, id=post.id
    )


def _view(post: Post) -> str:
    return f"{post.title}\n{post.text}".strip()
