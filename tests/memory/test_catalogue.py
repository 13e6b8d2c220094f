"""The catalogue: near enough to brute force, and filters never starve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import StoreError
from persona_agent.memory import catalogue as module
from persona_agent.memory.catalogue import Catalogue, Filter, Kind
from persona_agent.types import FloatArray, Json

pytestmark = pytest.mark.real("faiss")

COUNT, DIM, K = 3000, 32, 10
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivf")


def unit(rows: FloatArray) -> FloatArray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


RNG = np.random.default_rng(7)
CENTRES = RNG.standard_normal((40, DIM))
ROWS = unit(CENTRES[RNG.integers(0, 40, COUNT)] + 0.5 * RNG.standard_normal((COUNT, DIM)))
QUERIES = unit(CENTRES[:20] + 0.5 * RNG.standard_normal((20, DIM)))
IDS = [f"item/{number} é" for number in range(COUNT)]
METADATA: list[dict[str, Json]] = [
    {"genre": f"g{number % 5}", "year": 1990 + number % 30, "rare": number % 500 == 0}
    for number in range(COUNT)
]


@pytest.fixture(params=KINDS)
def catalogue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Give a catalogue of each kind, too large to be searched exactly."""
    monkeypatch.setattr(module, "EXACT", 100)
    return Catalogue(IDS, ROWS, METADATA, kind=request.param)


def nearest(query: FloatArray, allowed: list[int]) -> set[str]:
    scores = ROWS[allowed] @ query
    return {IDS[allowed[place]] for place in np.argsort(-scores, kind="stable")[:K]}


@pytest.mark.parametrize(
    "where",
    [
        None,
        {"genre": "g1"},
        {"genre": ["g0", "g1", "g2", "g3"]},
        {"year": 1995, "genre": "g0"},
        {"rare": True},
        lambda one: int(str(one["year"])) > 2000,
    ],
)
def test_what_is_found_is_nearly_what_brute_force_finds(
    catalogue: Catalogue, where: Filter | None
) -> None:
    if where is None:
        allowed = list(range(COUNT))
    elif callable(where):
        allowed = [place for place in range(COUNT) if where(METADATA[place])]
    else:
        allowed = catalogue._allowed(where).tolist()
    found = catalogue.search(QUERIES, K, where=where)
    right = 0
    for query, hits in zip(QUERIES, found, strict=True):
        assert len(hits) == min(K, len(allowed))
        assert {hit.id for hit in hits} <= {IDS[place] for place in allowed}
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(hit.metadata == METADATA[IDS.index(hit.id)] for hit in hits[:1])
        right += len({hit.id for hit in hits} & nearest(query, allowed))
    recall = right / (len(QUERIES) * min(K, len(allowed)))
    assert recall == 1 if catalogue.kind == "flat" else recall >= 0.95


def test_a_batch_equals_its_singles(catalogue: Catalogue) -> None:
    together = catalogue.search(QUERIES, 5)
    singles = [catalogue.search(QUERIES[[i]], 5)[0] for i in range(len(QUERIES))]
    assert [[h.id for h in one] for one in together] == [[h.id for h in one] for one in singles]


def test_more_than_there_is_gives_all_there_is(catalogue: Catalogue) -> None:
    assert [len(hits) for hits in catalogue.search(QUERIES[:2], COUNT + 5)] == [COUNT, COUNT]
    assert [len(hits) for hits in catalogue.search(QUERIES[:1], 9, where={"rare": True})] == [6]
    assert catalogue.search(QUERIES[:1], 3, where={"genre": []}) == [[]]
    assert catalogue.search(QUERIES[:1], 3, where={"no such field": 1}) == [[]]
    assert catalogue.search(QUERIES[:0], 3) == []
    assert catalogue.search(QUERIES[:1], 0) == [[]]


def test_saved_and_loaded_it_answers_the_same(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "items.catalogue"
    catalogue.save(path)
    loaded = Catalogue.load(path)
    assert loaded.kind == catalogue.kind
    if catalogue.kind == "flat":
        assert loaded.search(QUERIES, K) == catalogue.search(QUERIES, K)
    assert loaded.search(QUERIES, K, where={"rare": True}) == catalogue.search(
        QUERIES, K, where={"rare": True}
    )
    assert list(tmp_path.glob("*.tmp")) == []
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw[:20], b"", raw[:100] + b"x" + raw[101:]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="not a whole catalogue"):
            Catalogue.load(path)
    with pytest.raises(StoreError, match="cannot be read"):
        Catalogue.load(tmp_path / "absent")
    with pytest.raises(StoreError, match="cannot be saved"):
        catalogue.save(tmp_path / "no folder" / "x")


def test_an_empty_catalogue_finds_nothing() -> None:
    for kind in KINDS:
        empty = Catalogue([], np.zeros((0, DIM), np.float32), kind=kind)
        assert empty.search(QUERIES[:2], 3) == [[], []]


def test_small_catalogues_are_exact_by_default() -> None:
    assert Catalogue(IDS, ROWS).kind == "flat"


@pytest.mark.parametrize(
    ("ids", "rows", "says"),
    [
        (["a", "a"], ROWS[:2], "twice"),
        (["a"], ROWS[:2], "do not fit together"),
        (["a"], np.full((1, DIM), np.nan, np.float32), "not finite"),
        ([""], ROWS[:1], "catalogue id is empty"),
    ],
)
def test_wrong_entries_are_refused(ids: list[str], rows: FloatArray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Catalogue(ids, rows)


def test_wrong_queries_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match=r"must have \(m, 32\)"):
        catalogue.search(np.ones((1, 3), np.float32), 1)
    with pytest.raises(ValueError, match="k is -1"):
        catalogue.search(QUERIES, -1)
    with pytest.raises(ValueError, match="kind is 'tree'"):
        Catalogue(IDS[:1], ROWS[:1], kind="tree")  # type: ignore[arg-type]  # wrong on purpose
