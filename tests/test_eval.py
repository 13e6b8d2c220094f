"""What the evaluation rests on: biases, clustered intervals, the data, the benchmarks."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.cli import cli
from persona_agent.errors import InputError
from persona_agent.eval import movielens
from persona_agent.eval.bench import loop as bench_loop
from persona_agent.eval.biases import ITEM_PRIOR, USER_PRIOR, fit, of_others
from persona_agent.eval.movielens import Film, MovieLens, Rating
from persona_agent.eval.statistics import Interval, clustered_mean, paired, share_worse
from persona_agent.types import Scope

scores = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.floats(-5, 5), min_size=1, max_size=5), min_size=1
)


def rating(user: str, film: str, value: int, when: int = 0) -> Rating:
    return Rating(user, film, value, when)


# --- biases ---------------------------------------------------------------------------------


def test_biases_by_hand() -> None:
    found = fit([rating("a", "x", 5), rating("b", "x", 4), rating("a", "y", 3)])
    assert found.mean == 4
    assert found.items == pytest.approx({"x": 1 / (2 + ITEM_PRIOR), "y": -1 / (1 + ITEM_PRIOR)})
    own = [rating("c", "x", 2), rating("c", "z", 2)]
    bias = ((2 - 4 - found.items["x"]) + (2 - 4)) / (2 + USER_PRIOR)
    assert found.user(own) == pytest.approx(bias)
    assert found.predict(own, "y") == pytest.approx(4 + found.items["y"] + bias)
    assert found.user([]) == 0
    assert found.predict([], "never seen") == 4


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 5)), min_size=1, max_size=30))
def test_an_expected_rating_is_on_the_scale_and_no_item_stands_out_more_than_it_does(
    rows: list[tuple[str, int]],
) -> None:
    own = [rating("u", film, value) for film, value in rows]
    found = fit(own)
    for film in "xyz?":
        assert 1 <= found.predict(own * 20, film) <= 5
    for film, bias in found.items.items():
        raw = np.mean([one.value for one in own if one.film == film]) - found.mean
        assert abs(bias) <= abs(raw) + 1e-9
        assert bias * raw >= -1e-12


def test_biases_of_others_know_neither_the_user_nor_the_future() -> None:
    data = MovieLens(
        {},
        {
            "me": (rating("me", "x", 1, 1),),
            "you": (rating("you", "x", 5, 1), rating("you", "x", 1, 9)),
        },
    )
    assert of_others(data, "me", 9).mean == 5
    with pytest.raises(ValueError, match="no ratings"):
        of_others(data, "me", 1)


# --- statistics -----------------------------------------------------------------------------


def test_the_interval_of_a_clustered_mean_by_hand() -> None:
    found = clustered_mean({"a": [1.0, 2.0], "b": [3.0], "c": []})
    assert (found.mean, found.users, found.count) == (2.0, 2, 3)
    # drawing two of two users: twice a (1.5), twice b (3), or both (2)
    assert (found.low, found.high) == (1.5, 3.0)
    assert str(found) == "+2.000 [+1.500, +3.000]"


@given(scores, st.integers(0, 3))
def test_an_interval_holds_its_mean_and_follows_from_the_seed(
    by_user: dict[str, list[float]], seed: int
) -> None:
    found = clustered_mean(by_user, draws=200, seed=seed)
    assert found == clustered_mean(by_user, draws=200, seed=seed)
    flat = [value for values in by_user.values() for value in values]
    assert found.mean == pytest.approx(np.mean(flat))
    assert min(flat) - 1e-9 <= found.low <= found.high <= max(flat) + 1e-9
    narrow = clustered_mean(by_user, draws=200, seed=seed, level=0.5)
    assert found.low <= narrow.low <= narrow.high <= found.high


def test_intervals_cover_the_truth_as_often_as_they_claim_though_users_differ() -> None:
    rng = np.random.default_rng(0)
    covered, naive, trials = 0, 0, 300
    for trial in range(trials):
        by_user = {
            str(user): list(rng.normal(rng.normal(0, 1), 0.5, size=int(rng.integers(3, 12))))
            for user in range(40)
        }
        found = clustered_mean(by_user, draws=400, seed=trial)
        covered += found.low <= 0 <= found.high
        flat = np.concatenate([np.asarray(values) for values in by_user.values()])
        naive += abs(flat.mean()) <= 1.96 * flat.std() / math.sqrt(len(flat))
    assert 0.90 <= covered / trials <= 0.98
    assert naive / trials < 0.80  # what pretending that observations are independent would give


@pytest.mark.parametrize(
    ("by_user", "level", "says"),
    [
        ({}, 0.95, "no observations"),
        ({"a": []}, 0.95, "no observations"),
        ({"a": [1]}, 1.0, "level"),
    ],
)
def test_an_interval_of_nothing_is_refused(
    by_user: dict[str, list[float]], level: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        clustered_mean(by_user, level=level)


def test_differences_pair_user_by_user_and_refuse_what_does_not_pair() -> None:
    assert paired({"b": [1.0], "a": [3.0, 1.0]}, {"a": [1.0, 1.0], "b": [2.0]}) == {
        "a": [2.0, 0.0],
        "b": [-1.0],
    }
    with pytest.raises(ValueError, match=r"users differ: \['b'\]"):
        paired({"a": [1.0]}, {"a": [1.0], "b": [1.0]})
    with pytest.raises(ValueError, match="shorter"):
        paired({"a": [1.0]}, {"a": [1.0, 2.0]})


def test_the_share_of_users_made_worse_counts_users_not_observations() -> None:
    old = {"a": [1.0, 1.0, 1.0], "b": [1.0], "c": [1.0], "d": [1.0]}
    new = {"a": [0.0, 0.0, 0.0], "b": [1.0], "c": [2.0], "d": [1.0 - 1e-12]}
    assert share_worse(new, old) == 0.25
    assert share_worse(old, old) == 0.0
    assert share_worse({}, {}) == 0.0


@given(scores)
def test_nobody_is_worse_off_with_the_same(by_user: dict[str, list[float]]) -> None:
    assert share_worse(by_user, by_user) == 0.0
    better = {user: [value + 1 for value in values] for user, values in by_user.items()}
    assert share_worse(better, by_user) == 0.0
    assert share_worse(by_user, better) == 1.0


def test_an_interval_converts_to_json() -> None:
    assert Interval(1.0, 0.5, 1.5, 3, 9).to_json() == {
        "mean": 1.0,
        "low": 0.5,
        "high": 1.5,
        "users": 3,
        "count": 9,
    }


# --- data -----------------------------------------------------------------------------------


@pytest.mark.real("data")
def test_movielens_is_whole_and_in_time_order() -> None:
    data = movielens.load()
    assert len(data.ratings) == 943
    assert len(data.films) == 1682
    assert sum(map(len, data.ratings.values())) == 100_000
    assert min(map(len, data.ratings.values())) == 20
    for user, ratings in data.ratings.items():
        assert all(a.when <= b.when for a, b in pairwise(ratings))
        assert all(one.user == user and 1 <= one.value <= 5 for one in ratings)
        assert len({one.film for one in ratings}) == len(ratings)
    assert {film for ratings in data.ratings.values() for film in (r.film for r in ratings)} <= set(
        data.films
    )
    assert data.films["1"].text == "Toy Story (1995), Animation, Children's, Comedy"


def write(folder: Path, films: list[str], ratings: list[str]) -> Path:
    head = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    (folder / "ml-100k.item").write_text("\n".join([head, *films]) + "\n")
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "ml-100k.inter").write_text("\n".join([head, *ratings]) + "\n")
    return folder


def test_titles_genres_and_times_are_read_as_people_speak_of_them(tmp_path: Path) -> None:
    films = ["7\tUsual Suspects, The\t1995\tCrime Thriller", '8\tSay "hi"\t\tunknown']
    data = movielens.load(write(tmp_path, films, ["2\t8\t3\t50", "2\t7\t4.0\t50", "2\t7\t5\t10"]))
    assert data.films["7"] == Film("7", "The Usual Suspects", "1995", ("Crime", "Thriller"))
    assert data.films["8"].text == 'Say "hi"'
    assert [(one.film, one.value, one.when) for one in data.ratings["2"]] == [
        ("7", 5, 10),
        ("7", 4, 50),
        ("8", 3, 50),
    ]
    one = movielens.interaction(data, data.ratings["2"][0], "acme")
    assert one.scope == Scope("ml-2", "acme")
    assert (one.query, one.outcome) == ("The Usual Suspects (1995), Crime, Thriller", "5")
    assert one.id == "ml-2-7"
    assert one.metadata["genres"] == ["Crime", "Thriller"]


def test_a_damaged_or_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ml-100k.item cannot be read: No such file"):
        movielens.load(tmp_path)
    with pytest.raises(InputError, match=r"ml-100k.inter line 2 has 2 columns; 4 are due"):
        movielens.load(write(tmp_path, [], ["1\t2"]))


# --- benchmarks -----------------------------------------------------------------------------

LOOP = {"overhead_ms_per_request", "model_rounds", "requests", "peak_mb"}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("loop", LOOP),
        pytest.param(
            "recommend",
            {"ndcg10_ease", "fit_s_ease", "foldin_p50_ms", "top20_ms_per_1000_users"},
            marks=pytest.mark.real("data"),
        ),
        pytest.param("act", {"act_p50_ms", "embed_p50_ms"}, marks=pytest.mark.real("embedder")),
    ],
)
def test_a_benchmark_ends_with_one_flat_json_object(name: str, keys: set[str]) -> None:
    done = CliRunner().invoke(cli, ["bench", name, "--quick", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    found = {key: value for key, value in figures.items() if value is not None}  # None: too slow
    assert keys <= set(found)
    assert all(isinstance(value, (int, float)) and value > 0 for value in found.values())


def test_the_number_of_model_calls_is_that_of_rounds_however_many_users() -> None:
    few, many = bench_loop.measure(users=2), bench_loop.measure(users=8)
    assert set(few) == set(many) >= LOOP
    assert few["model_rounds"] == many["model_rounds"]
    assert many["requests"] > 3 * few["requests"]
