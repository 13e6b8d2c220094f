"""A server with people in it: what they rated and said, personas, an operator's troubles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from persona_agent.errors import BackendError
from persona_agent.llm import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.jobs import MAX_ATTEMPTS, Jobs
from persona_agent.memory.store import Store
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.serve.app import create_app
from persona_agent.serve.config import Config
from persona_agent.serve.service import Parts
from persona_agent.types import FloatArray, Interaction, Scope
from tests.page.films import FILMS, Film
from tests.page.model import NOTES, PATIENCE_S, Learning, Talking
from tests.serve.conftest import Running, listening

RATED = 40  # films of a person; an alignment needs 26
RATED_LATER = 12  # the next needs so many that it has not seen
REMEMBERED = RATED + len(NOTES)
FIRST = datetime(2026, 1, 4, 20, tzinfo=UTC)
TROUBLED = "tom"  # whose facts could not be learned


class Embedder(HashEmbedder):
    """A hash embedder that can be made to fail."""

    is_broken = False

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of texts; raises BackendError while it is broken."""
        if self.is_broken:
            raise BackendError("the embedder is broken for a test")
        return super().embed(texts)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of whom the server knows: the id, and a key of one's own."""

    user: str
    key: str


class World:
    """A running server and its people; each test takes people of its own."""

    def __init__(
        self, running: Running, embedder: Embedder, learning: Learning, model: Talking
    ) -> None:
        self.running = running
        self.url = running.url
        self.embedder = embedder
        self.learning = learning
        self.model = model
        self._named: Counter[str] = Counter()

    def person(self, name: str = "ann") -> Person:
        """Return somebody new who rated films and said something about it."""
        person = self.stranger(name)
        rated = [_rating(film, place) for place, film in enumerate(FILMS[:RATED])]
        said = [{"query": text, "when": _when(RATED + place)} for place, text in enumerate(NOTES)]
        self._remember(person, [*rated, *said])
        return person

    def stranger(self, name: str = "bo") -> Person:
        """Return somebody new of whom nothing is known yet."""
        self._named[name] += 1
        user = name if self._named[name] == 1 else f"{name}-{self._named[name]}"
        return Person(user, self.running.key(user=user))

    def aligned(self, person: Person) -> dict[str, Any]:
        """Align a person's persona; return how the operation ended (Any: JSON)."""
        with self.client(person) as web:
            asked = _ok(web.post(f"/v1/users/{person.user}/persona/align"))
            found: dict[str, Any] = self._until(
                lambda: _ok(web.get(f"/v1/operations/{asked['id']}")),
                lambda told: told["state"] in ("done", "failed"),
            )
            return found

    def learned(self, person: Person, count: int) -> None:
        """Wait until so many facts were learned about a person."""
        with self.client(person) as web:
            self._until(
                lambda: _ok(web.get(f"/v1/users/{person.user}/facts")),
                lambda told: len(told["results"]) >= count,
            )

    def rates_more(self, person: Person) -> None:
        """Let a person rate the films that are left, so that there is something new to judge by."""
        rated = [
            _rating(film, 60 + place) for place, film in enumerate(FILMS[RATED:][:RATED_LATER])
        ]
        self._remember(person, rated)

    def client(self, person: Person) -> httpx.Client:
        """Return a client with a person's key."""
        return self.running.client(person.key)

    def _remember(self, person: Person, memories: list[dict[str, Any]]) -> None:  # Any: JSON
        with self.client(person) as web:
            _ok(web.post("/v1/memories", json={"user_id": person.user, "memories": memories}))

    def _until(self, ask: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:  # Any: JSON
        until = time.monotonic() + PATIENCE_S
        while not fits(told := ask()):
            if time.monotonic() > until:
                raise TimeoutError(f"after {PATIENCE_S} s it is still {told}")
            time.sleep(0.05)
        return told


@contextmanager
def world(
    folder: Path, *, recommends: bool = True, pause_s: float = 0.02, **settings: Any
) -> Iterator[World]:
    """Give a server on a database in a folder; without `recommends` it has no recommender.

    `settings` are those of a Config, beside the ones that it needs.
    """
    _trouble(folder / "persona.db")
    embedder, learning, talking = Embedder(), Learning(), Talking(pause_s)
    config = Config.model_validate(
        {
            "database": str(folder / "persona.db"),
            "embedder": "hash",
            "learn": {"every_s": 0.05, "align": False},
            "recommend": _shop(folder) if recommends else {},
            "memory": {"deadline_s": PATIENCE_S / 2},
            "journal_sync": False,
            **settings,
        }
    )
    parts = Parts(FakeLLM(learning.answer), talking, embedder)
    with listening(create_app(config, parts)) as running:
        yield World(running, embedder, learning, talking)


def _trouble(database: Path) -> None:
    """Make a job that failed so often that only an operator can let it run again."""
    scope, now = Scope(TROUBLED), FIRST
    with Store.open(database, outbox=("facts",)) as store:
        store.add([Interaction(scope, now, "I always sit in the third row.")], now=now)
        jobs = Jobs(store)
        for _ in range(MAX_ATTEMPTS):
            job = jobs.claim(["facts"], now)
            assert job is not None
            jobs.fail(job, "BackendTimeout: the model did not answer in 120 s", now)
            now += timedelta(hours=1)


def _shop(folder: Path) -> dict[str, str]:
    """Write a recommender that knows who likes which genre, and a catalogue of all films."""
    likes = [
        (f"{film.genre}-{reader}", film.item)
        for reader in range(4)
        for film in FILMS
        if int(film.item[1:]) % 4 != reader
    ]
    users, items = zip(*likes, strict=True)
    EASE(l2=1).fit(Interactions.of(users, items)).save(folder / "model")
    rows = [f'{film.item},"{film.title}",{film.genre},{film.year}' for film in FILMS]
    (folder / "films.csv").write_text("\n".join(["item,title,genres,year", *rows]), "utf-8")
    return {"folder": str(folder / "model"), "items": str(folder / "films.csv"), "noun": "film"}


def _rating(film: Film, place: int) -> dict[str, Any]:
    return {
        "query": f"{film.title} ({film.year}), a {film.genre} film",
        "item": film.item,
        "outcome": str(film.stars),
        "when": _when(place),
        "metadata": {"genre": film.genre, "item_name": "film"},
    }


def _when(place: int) -> str:
    return (FIRST + timedelta(days=3 * place)).isoformat()


def _ok(response: httpx.Response) -> Any:  # Any: JSON
    assert response.is_success, response.text
    return response.json()
