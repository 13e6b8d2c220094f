"""Recommendations by HTTP: what suits, why, and a conversation whose state the client keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from tests.serve.conftest import Running

ITEMS = [
    ("f1", "Alien", "Horror|Sci-Fi", 1979),
    ("f2", "Aliens", "Horror|Sci-Fi", 1986),
    ("f3", "Heat", "Crime", 1995),
    ("f4", "Casino", "Crime", 1995),
    ("f5", "Solaris", "Sci-Fi", 1972),
    ("f6", "Goodfellas", "Crime", 1990),
]


@pytest.fixture
def shop(serve: Callable[..., Running], tmp_path: Path) -> Running:
    likes = {"a": "f1 f2 f5", "b": "f1 f2", "c": "f3 f4 f6", "d": "f3 f4", "e": "f2 f5"}
    pairs = [(user, item) for user, some in likes.items() for item in some.split()]
    data = Interactions.of([user for user, _ in pairs], [item for _, item in pairs])
    EASE(l2=1).fit(data).save(tmp_path / "model")
    rows = [f"{item},{title},{genres},{year}" for item, title, genres, year in ITEMS]
    (tmp_path / "films.csv").write_text("\n".join(["item,title,genres,year", *rows]))
    part = {
        "folder": str(tmp_path / "model"),
        "items": str(tmp_path / "films.csv"),
        "noun": "film",
    }
    return serve(recommend=part)


def test_what_is_not_seen_is_recommended_and_explained(shop: Running) -> None:
    with shop.client(shop.key(user="ann")) as web:
        liked = {"memories": [{"query": "Alien (1979)", "item": "f1", "outcome": "5"}]}
        web.post("/v1/memories", json=liked)
        offers = web.post("/v1/recommendations", json={"k": 2}).json()["results"]
        assert offers[0]["item"] == "f2"
        assert "f1" not in [one["item"] for one in offers]
        assert "Alien" in offers[0]["why"]
        wish = {"k": 5, "must": {"genres": ["Crime"]}, "must_not": {"title": "heat"}}
        offers = web.post("/v1/recommendations", json=wish).json()["results"]
        assert {one["item"] for one in offers} == {"f4", "f6"}
        why = web.post("/v1/recommendations/explain", json={"item": "f2"}).json()
        assert (why["reasons"][0]["ids"], why["reasons"][0]["titles"]) == (["f1"], ["Alien (1979)"])
        assert web.post("/v1/recommendations/explain", json={"item": "f9"}).status_code == 404
        wrong = web.post("/v1/recommendations", json={"must": {"genres": ["Opera"]}})
        assert (wrong.status_code, "there is no genre" in wrong.text) == (400, True)


def test_a_conversation_goes_on_by_the_state_that_the_client_keeps(shop: Running) -> None:
    with shop.client(shop.key(user="ann")) as web:
        first: dict[str, Any] = web.post("/v1/recommendations/dialogue", json={}).json()
        assert first["say"]
        second = web.post(
            "/v1/recommendations/dialogue", json={"text": "I like Alien", "state": first["state"]}
        )
        assert second.status_code == 200, second.text
        assert second.json()["state"] != first["state"]
        wrong = web.post(
            "/v1/recommendations/dialogue", json={"text": "yes", "state": {"domain": 7}}
        )
        assert wrong.status_code == 400


def test_without_a_recommender_it_says_so(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        told = web.post("/v1/recommendations", json={})
    assert (told.status_code, told.json()["error"]["code"]) == (501, "no_recommender")
