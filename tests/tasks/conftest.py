"""Tiny files in the shapes of the real data sets, with made-up contents, for the tests of loaders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

INPUTS = {
    "1": 'For an author who has written the paper with the title "Owls", which reference is '
    'related? Just answer with [1] or [2] without explanation. [1]: "Mice" [2]: "Rain"',
    "2m": "Which tag does this movie relate to among the following tags? tags: [sci-fi, comedy] "
    "description: a ship is lost",
    "2n": "Which category does this article relate to? categories: [travel] article: by train",
    "3": "What is the score of the following review on a scale of 1 to 5? review: it broke",
    "4": "Generate a headline for the following article: a bridge opens",
    "5": "Generate a title for the following abstract of a paper: we count owls",
    "7": "Paraphrase the following tweet without any explanation before or after it: it rains",
}
OUTPUTS = {
    "1": "[1]",
    "2m": "sci-fi",
    "2n": "travel",
    "3": "2",
    "4": "New bridge",
    "5": "Owls",
    "7": "wet!",
}
ITEMS: dict[str, dict[str, Any]] = {
    "1": {"title": "Old owls", "abstract": "owls of old"},
    "2m": {"description": "a robot dreams", "tag": "sci-fi"},
    "2n": {"title": "Far", "text": "a long way", "category": "travel"},
    "3": {"text": "fine", "score": "4"},
    "4": {"title": "Big news", "text": "it was big"},
    "5": {"title": "Nests", "abstract": "we find nests"},
    "7": {"text": "so hot"},
}
NUMBERS = {"2m": 2, "2n": 2}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def lamp(folder: Path, kind: str, dates: Sequence[str | None], questions: int = 2) -> Path:
    """Write a dev split of one task: each profile has an item a date, in the order given."""
    profile = [
        {"id": f"{number}", **ITEMS[kind], **({} if date is None else {"date": date})}
        for number, date in enumerate(dates)
    ]
    asked = [
        {"id": f"{kind}{number}", "input": INPUTS[kind], "profile": profile}
        for number in range(questions)
    ]
    golds = [{"id": one["id"], "output": OUTPUTS[kind]} for one in asked]
    write(folder / "dev_questions.json", asked)
    number = NUMBERS.get(kind) or int(kind)
    write(folder / "dev_outputs.json", {"task": f"LaMP_{number}", "golds": golds})
    return folder


def reply(author: str, text: str, delta: bool = False) -> dict[str, Any]:
    return {"author": author, "body": text, "delta": delta}


def post(name: str, author: str, when: int, replies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "author": author,
        "created_utc": when,
        "title": f"CMV: {name}",
        "selftext": "I think so.",
        "comments": list(replies),
    }


def cmv(folder: Path, past: Sequence[Any], asked: Sequence[Any]) -> Path:
    authors = {one["author"]: [len(past), len(asked)] for one in asked}
    write(folder / "target_authors_collection.json", authors)
    write(folder / "history_data.json", list(past))
    write(folder / "evaluation_data.json", list(asked))
    return folder


def locomo(data: Path) -> Path:
    turn = {"speaker": "Ann", "text": "I have a new dog, Rex."}
    conversation = {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_2_date_time": "9:05 am on 2 March, 2023",
        "session_2": [{**turn, "text": "The train was late.", "dia_id": "D2:1"}],
        "session_1_date_time": "11:00 pm on 1 March, 2023",
        "session_1": [
            {**turn, "dia_id": "D1:1", "blip_caption": "a brown dog"},
            {"speaker": "Bob", "text": "I grow tomatoes.", "dia_id": "D1:2"},
        ],
        "session_3_date_time": "1:00 pm on 9 March, 2023",
    }
    asked = [
        {"question": "What is Ann's dog called?", "evidence": ["D1:1"], "category": 4},
        {"question": "What does Bob grow?", "evidence": ["D1:02; D:2:1"], "category": 1},
        {"question": "What does Ann grow?", "evidence": ["D1:2"], "category": 5},
        {"question": "Why?", "evidence": ["D"], "category": 3},
        {"question": "When?", "evidence": ["D9:9"], "category": 2},
    ]
    for one in asked:
        one["answer"] = "x"
    sample = {"sample_id": "conv-1", "conversation": conversation, "qa": asked}
    write(data / "locomo" / "locomo10.json", [sample])
    return data


def prefeval(data: Path) -> Path:
    folder = data / "prefeval"
    item = {"preference": "I avoid noisy hotels.", "question": "Which hotel in Vegas?"}
    options = ["A quiet inn.", "The party hotel.", "The club hotel.", "The casino."]
    talk = {
        "query": "Hotels?",
        "assistant_options": "An inn, or a party hotel.",
        "user_selection": "The inn, I avoid noisy hotels.",
        "assistant_acknowledgment": "Good.",
    }
    write(folder / "explicit_preference" / "hotel.json", [item])
    write(
        folder / "implicit_preference" / "choice-based" / "hotel.json",
        [{**item, "conversation": talk}],
    )
    write(folder / "mcq_options" / "hotel.json", [{**item, "classification_task_options": options}])
    said = [("user", "Sort a list."), ("assistant", "Use sorted."), ("user", "Thanks, and a set?")]
    said.append(("assistant", "The same."))
    talks = [{"conversation": [{"role": role, "content": text} for role, text in said]}]
    write(folder / "filtered_inter_turns.json", talks)
    return data


def films(data: Path, ratings: Sequence[tuple[int, int, float, int]]) -> Path:
    """Write latest-small with 40 films, and a tag for each rating."""
    folder = data / "movielens-latest-small"
    folder.mkdir(parents=True, exist_ok=True)
    films = [
        f'{n},"Film {n}, The (19{n + 50})",{"Drama|War" if n % 2 else "Comedy"}' for n in range(40)
    ]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]) + "\n")
    rows = [f"{user},{film},{stars},{when}" for user, film, stars, when in ratings]
    (folder / "ratings.csv").write_text(
        "\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n"
    )
    tags = [f"{user},{film},Tag {film % 30},{when}" for user, film, _, when in ratings]
    (folder / "tags.csv").write_text("\n".join(["userId,movieId,tag,timestamp", *tags]) + "\n")
    return data


@pytest.fixture(scope="session")
def files() -> SimpleNamespace:
    """Give the functions that write the files, by the name of the data set."""
    return SimpleNamespace(
        inputs=INPUTS,
        outputs=OUTPUTS,
        write=write,
        lamp=lamp,
        reply=reply,
        post=post,
        cmv=cmv,
        locomo=locomo,
        prefeval=prefeval,
        films=films,
    )
