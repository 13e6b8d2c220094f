"""From what was trained to an ablation: adapters of its people, and none that saw a query."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persona_agent.cli import main
from persona_agent.eval.ablation.cache import Budget
from persona_agent.eval.ablation.run import Settings
from persona_agent.eval.ablation.study import ablate
from persona_agent.eval.ablation.tuning import Tuned, tune, tuned_in
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.adapter_files import AdapterFiles
from persona_agent.memory.adapters import sources_of
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.store import Store
from persona_agent.task import Task
from persona_agent.train.base import Base
from persona_agent.train.encode import encode
from persona_agent.train.options import TrainOptions
from persona_agent.train.trainer import Learned, read_weights, train_all
from persona_agent.types import Interaction, ModelRequest, Scope

Captured = pytest.CaptureFixture[str]
Rated = Callable[..., list[Interaction]]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OPTIONS = TrainOptions(rate=0.02, window=6, epochs=1)
USERS = ("ann", "bob", "eve")


@pytest.fixture
def tasks(ratings: Rated, rating_task: Task) -> TaskSet:
    """Three people with sixteen ratings known and three asked."""
    lines = {user: ratings(user, 19) for user in USERS}
    return TaskSet(
        "ratings",
        rating_task,
        {user: tuple(own[:16]) for user, own in lines.items()},
        tuple(one for own in lines.values() for one in own[16:]),
        "Say the rating.",
        ("expected_mae",),
    )


@pytest.fixture
def files(tmp_path: Path) -> Iterator[AdapterFiles]:
    """Adapters beside a store in which nothing is yet."""
    with Store.open(tmp_path / "adapters.db") as store:
        yield AdapterFiles(store, tmp_path / "adapters.db.adapters")


def made(files: AdapterFiles, base: Base, tasks: TaskSet) -> list[Learned]:
    found = tune(files, base, tasks.histories, tasks.task, OPTIONS, clock=lambda: NOW)
    return [found[user].unwrap() for user in USERS]


def usable(files: AdapterFiles, base: Base, tasks: TaskSet) -> Tuned:
    return tuned_in(files, tasks.histories, base=base.fingerprint)


def reading(base: Base, folders: Mapping[str, Path]) -> FakeLLM:
    """Return an engine that scores choices by the tiny model, with the weights that are asked for."""

    def score(request: ModelRequest) -> list[float]:
        asked = request.messages[-1].content
        rows = [
            encode(base.tokenizer, asked + one, [(len(asked), len(asked + one))], 1024)
            for one in request.choices
        ]

        def said(model: object) -> list[float]:
            return [float(base.logprobs(model, [row]).detach().sum()) for row in rows]

        if request.adapter is None:
            return said(base.model)
        with base.adapted(OPTIONS, read_weights(folders[request.adapter])) as model:
            model.eval()
            return said(model)

    return FakeLLM(score)


def test_what_was_trained_answers_for_its_own_person(
    files: AdapterFiles, base: Base, tasks: TaskSet, tmp_path: Path
) -> None:
    trained = made(files, base, tasks)
    found = usable(files, base, tasks)
    assert found.refused == ()
    assert found.names == {
        "tft": {user: one.adapter.name for user, one in zip(USERS, trained, strict=True)}
    }
    llm = reading(base, found.folders)
    study = ablate(
        tasks,
        llm,
        Settings(("none", "lora-tft"), users=3, queries=2),
        tmp_path / "out",
        model="tiny",
        embedder=HashEmbedder(),
        adapters=found.names,
    )
    assert {one.error for one in study.run.spent} == {None}
    assert {one.adapter for one in llm.requests} == {None, *found.folders}
    loglik = {
        arm: [one.loglik for one in study.run.examples if one.arm == arm]
        for arm in ("none", "lora-tft")
    }
    assert len(loglik["none"]) == len(loglik["lora-tft"]) == 6
    assert loglik["none"] != loglik["lora-tft"]


def test_an_adapter_that_learned_from_a_query_is_refused(
    files: AdapterFiles, base: Base, tasks: TaskSet, ratings: Rated
) -> None:
    scopes = [Scope(user) for user in USERS]
    files.store.add([one for user in USERS for one in ratings(user, 19)], now=NOW)

    def train(options: TrainOptions, **given: object) -> list[str]:
        results = train_all(
            files, base, scopes, lambda _: tasks.task, options, clock=lambda: NOW, **given
        )  # type: ignore[arg-type]  # cohort or start
        return [one.unwrap().adapter.name for one in results]

    train(OPTIONS)
    found = usable(files, base, tasks)
    assert (found.names, len(found.refused)) == ({}, 3)
    assert all("is not in the history that is studied" in one for one in found.refused)
    held_out = replace(OPTIONS, held_out=3)
    own = train(held_out)
    assert sorted(usable(files, base, tasks).names["tft"].values()) == sorted(own)
    (cohort,) = train(OPTIONS, cohort=True)  # knows the queries, and so does what begins with it
    train(replace(held_out, seed=1), start=cohort)
    assert usable(files, base, tasks).names == {}
    assert tuned_in(files, tasks.histories, base="another").names == {}


def test_a_shorter_history_takes_what_learned_more_of_it_and_the_same_is_not_trained_again(
    files: AdapterFiles, base: Base, tasks: TaskSet
) -> None:
    first = made(files, base, tasks)
    assert not any(one.fresh for one in made(files, base, tasks))
    shorter = replace(
        tasks,
        histories={**tasks.histories, "ann": tasks.histories["ann"][:12]},
    )
    second = made(files, base, shorter)
    assert [one.fresh for one in second] == [True, False, False]
    learned = {one.event for one in sources_of(files.store, second[0].adapter)}
    assert learned == {one.id for one in shorter.histories["ann"]}
    assert not (files.root / first[0].adapter.name).exists()
    assert len(usable(files, base, shorter).folders) == 3


def logs(tasks: TaskSet, path: Path) -> str:
    """Write a task set as a file of logs, and return the task's name."""
    queries = {user: tasks.queries_of(user) for user in tasks.users}
    path.write_text(
        "".join(
            json.dumps({"user": user, "id": one.id, "when": one.when.isoformat(),
                        "query": one.query, "outcome": one.outcome}) + "\n"
            for user in tasks.users
            for one in (*tasks.histories[user], *queries[user])
        )
    )  # fmt: skip
    return f"rows:{path}"


def study_of(tasks: TaskSet, folder: Path, *given: str) -> list[str]:
    return ["eval", "ablate", "--task", logs(tasks, folder / "logs.jsonl"), "--users", "3",
            "--queries", "2", "--arms", "none,lora-tft", "--out", str(folder / "out"), *given]  # fmt: skip


@pytest.mark.parametrize("given", ["--train", "--adapters"])
def test_an_engine_that_serves_no_adapters_is_refused_before_any_is_trained(
    tasks: TaskSet, files: AdapterFiles, tmp_path: Path, given: str, capsys: Captured
) -> None:
    value = {"--train": "tft", "--adapters": str(tmp_path / "adapters.db")}[given]
    with pytest.raises(SystemExit) as end:
        main(["--embedder", "hash", *study_of(tasks, tmp_path, given, value)])
    assert end.value.code == 2
    assert "local serves no adapters; use --llm vllm:MODEL" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert files.store.users() == []


def test_adapters_are_trained_or_taken_not_both(
    tasks: TaskSet, files: AdapterFiles, tmp_path: Path, capsys: Captured
) -> None:
    both = ["--train", "tft", "--adapters", str(tmp_path / "adapters.db")]
    with pytest.raises(SystemExit):
        main(study_of(tasks, tmp_path, *both))
    assert "give one of them" in capsys.readouterr().err


def test_thoughts_are_drawn_kept_and_learned_by_one_command(
    tasks: TaskSet,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: ModelRequest) -> str:
        thinks = request.purpose == "think"
        return "They gave [1] little, and this is alike." if thinks else "2"

    asked: list[FakeLLM] = []

    def model(*_: object, **__: object) -> FakeLLM:
        asked.append(FakeLLM(answer))
        return asked[-1]

    monkeypatch.setattr("persona_agent.cli.settings.open_llm", model)
    monkeypatch.setattr("persona_agent.llm.vllm.VLLM", model)
    given = ["--train", "traces", "--cases", "4", "--samples", "1", "--epochs", "1"]
    command = ["--embedder", "hash", "--llm", f"vllm:{tiny_folder}", *study_of(tasks, tmp_path)]
    command[command.index("--arms") + 1] = "none,prime"
    main([*command, *given])
    shown = capsys.readouterr().out
    assert "9 traces of 12 cases, 12 thoughts; dropped: 3 wrong" in shown
    assert "3 adapters of 3 people are used" in shown
    thinking = [one for llm in asked for one in llm.requests if one.purpose == "think"]
    assert {one.adapter for one in thinking[:12]} == {None}
    assert all(one.adapter for one in thinking[12:])  # the arm thinks with what was learned
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {row["arm"] for row in rows} == {"label-prior", "none", "prime"}
    asked.clear()
    main([*command, *given])
    assert "0 requests were asked anew" in capsys.readouterr().out
    assert not any(llm.requests for llm in asked)


def test_what_is_thought_about_counts_for_the_budget(
    tasks: TaskSet, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "persona_agent.cli.settings.open_llm", lambda *_, **__: FakeLLM(lambda one: "2")
    )
    with pytest.raises(SystemExit):
        main(["--embedder", "hash", "--llm", f"vllm:{tiny_folder}", *study_of(tasks, tmp_path),
              "--train", "traces", "--cases", "4", "--samples", "1", "--budget", "5"])  # fmt: skip
    assert Budget(5, None).less(3, 7) == Budget(2, None)
    assert Budget(5, 6).less(9, 7) == Budget(0, 0)


@pytest.mark.real("vllm")
def test_the_command_asks_a_real_engine_with_what_it_trained_and_then_with_what_is_stored(
    tasks: TaskSet, weights: Path, tmp_path: Path, capsys: Captured
) -> None:
    engine = ["--embedder", "hash", "--llm", f"vllm:{weights}"]
    recipe = ["--train", "tft", "--epochs", "1", "--rate", "0.001"]
    main([*engine, *study_of(tasks, tmp_path, *recipe)])
    shown = capsys.readouterr().out
    assert "3 adapters of 3 people are used" in shown
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["arm"] for row in results["rows"]} == {"label-prior", "none", "lora-tft"}
    stored = ["--adapters", str(tmp_path / "out" / "adapters.db")]
    main([*engine, *study_of(tasks, tmp_path, *stored)])
    shown = capsys.readouterr().out
    assert "3 adapters of 3 people are used" in shown
    assert "0 requests were asked anew" in shown
