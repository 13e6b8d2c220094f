"""From a store to adapters: kept, judged, resumed, forgotten; by the agent and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from persona_agent.agent import PersonaAgent
from persona_agent.cli import main
from persona_agent.distil import TraceOptions
from persona_agent.errors import NotEnoughData, StoreError, UnknownUser
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.adapters import sources_of
from persona_agent.memory.verify import found_in
from persona_agent.task import Task
from persona_agent.train.base import Base
from persona_agent.train.hosting import Hosted
from persona_agent.train.options import TrainOptions
from persona_agent.train.score import asks_of, mean_nats, option_logprobs
from persona_agent.train.trainer import LINEAGE, STATE, Learned, Trainer
from persona_agent.types import Interaction, Scope

Rated = Callable[..., list[Interaction]]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OPTIONS_TASK = Task("rating", "Film", "Rating", ("1", "2", "3", "4", "5"), numeric=True)
OPTIONS = TrainOptions(rate=0.02, window=6, epochs=1, held_out=4)


@pytest.fixture
def agent(tmp_path: Path, ratings: Rated, rating_task: Task) -> Iterator[PersonaAgent]:
    """An agent without a model that knows three people."""
    with PersonaAgent.open(
        tmp_path / "persona.db", llm=None, embedder="hash", task=rating_task
    ) as opened:
        for user in ("ann", "bob", "eve"):
            opened.add(ratings(user, 20))
        yield opened


def learned(agent: PersonaAgent, base: Base, user: str, **given: Any) -> Learned:
    (result,) = agent.train(user, base=base, **{"options": OPTIONS, **given})
    return result.unwrap()


def test_an_adapter_knows_what_it_was_made_of_and_what_it_is_worth(
    agent: PersonaAgent, base: Base
) -> None:
    done = learned(agent, base, "ann")
    assert done.learned == 16
    scores = done.adapter.scores
    assert scores["held_out"] == 4
    assert done.gain == pytest.approx(float(str(scores["base_nats"])) - float(str(scores["nats"])))
    sources = sources_of(agent.memory.store, done.adapter)
    assert sorted(one.event for one in sources) == sorted(f"ann-{i}" for i in range(16))
    folder = agent.adapter_folder(done.adapter.name)
    lineage = json.loads((folder / LINEAGE).read_text())
    assert lineage["sources"] == [one.to_json() for one in sources]
    assert (lineage["method"], lineage["options"]["seed"]) == ("tft", 0)
    assert lineage["base_hash"] == base.fingerprint
    assert sorted(one.name for one in folder.iterdir()) == [
        LINEAGE,
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert agent.adapters("ann") == [done.adapter]
    assert "ann" not in done.adapter.name


def test_peft_loads_what_was_trained(agent: PersonaAgent, base: Base, tiny_folder: Path) -> None:
    import peft
    import transformers

    done = learned(agent, base, "ann")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    adapted = peft.PeftModel.from_pretrained(model, agent.adapter_folder(done.adapter.name)).eval()
    asks = asks_of(agent.get_all(user_id="ann"), OPTIONS_TASK, 4, OPTIONS)
    own = mean_nats(option_logprobs(base, adapted, asks, 999), asks)
    assert own == pytest.approx(done.adapter.scores["nats"], abs=1e-4)


def test_options_are_told_by_one_reading_or_by_one_each(agent: PersonaAgent, base: Base) -> None:
    history = agent.get_all(user_id="ann")
    (quick,) = asks_of(history, OPTIONS_TASK, 3, OPTIONS)
    told = option_logprobs(base, base.model, [quick], 999)[0]
    assert np.exp(told).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    for span, own in zip(quick.spans, told, strict=True):
        whole = []
        for option in OPTIONS_TASK.options:
            tokens = base.tokenizer(quick.text[: span[0]] + option).input_ids
            logits = base.model(torch.tensor([tokens])).logits[0]
            whole.append(logits[-2].log_softmax(-1)[tokens[-1]])
        assert torch.stack(whole).log_softmax(0).tolist() == pytest.approx(own, abs=1e-4)
    words = Task("words", "Film", "Rating", options=("2", "5", "neither of the two"))
    (slow,) = asks_of(history, words, 2, OPTIONS)
    told = option_logprobs(base, base.model, [slow], 999)[0]
    assert [len(one) for one in told] == [3, 3]
    assert np.exp(told).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_what_is_there_is_not_trained_again_and_new_data_is(
    agent: PersonaAgent, base: Base, ratings: Rated
) -> None:
    first = learned(agent, base, "ann")
    again = learned(agent, base, "ann")
    assert (first.fresh, again.fresh, again.adapter) == (True, False, first.adapter)
    agent.add(ratings("ann", 24)[20:])
    newer = learned(agent, base, "ann")
    assert newer.fresh
    assert [one.name for one in agent.adapters("ann")] == [newer.adapter.name]
    with pytest.raises(StoreError):
        agent.adapter_folder(first.adapter.name)


def test_a_cohort_and_who_begins_with_it_go_with_any_of_it(
    agent: PersonaAgent, base: Base, tmp_path: Path
) -> None:
    (result,) = agent.train(["bob", "ann"], base=base, options=OPTIONS, cohort=True)
    cohort = result.unwrap().adapter
    assert cohort.user is None
    on_top = learned(agent, base, "eve", start=cohort.name).adapter
    alone = learned(agent, base, "bob", options=TrainOptions(method="ntp", epochs=1)).adapter
    assert {one.name for one in agent.adapters()} == {cohort.name, on_top.name, alone.name}
    assert agent.forget("ann", dry_run=True).rows["adapters"] == 2
    receipt = agent.forget("ann")
    assert receipt.outside == {"adapters on disk": 2}
    assert agent.adapters() == [alone]
    files = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert list(found_in(files, ["ann-3", cohort.name, on_top.name])) == []
    main(["--db", str(tmp_path / "persona.db"), "verify", "--canary", "ann-3"])


def test_a_deleted_memory_takes_the_adapter_along(agent: PersonaAgent, base: Base) -> None:
    learned(agent, base, "ann")
    other = learned(agent, base, "bob").adapter
    agent.delete("ann-19", user_id="ann")  # held out: nothing was learned from it
    assert len(agent.adapters()) == 2
    agent.delete("ann-2", user_id="ann")
    assert agent.adapters() == [other]


def test_one_who_cannot_be_trained_disturbs_nobody(agent: PersonaAgent, base: Base) -> None:
    agent.add("hello", user_id="new")
    ann, new, nobody = agent.train(["ann", "new", "nobody"], base=base, options=OPTIONS)
    assert ann.ok
    assert isinstance(new.error, NotEnoughData)
    assert isinstance(nobody.error, NotEnoughData)
    with pytest.raises(StoreError, match="no adapter 'x' to begin with"):
        agent.train("ann", base=base, start="x")
    with (
        PersonaAgent.open(":memory:", llm=None, embedder="hash") as bare,
        pytest.raises(ValueError, match="open the agent with adapters="),
    ):
        bare.train("ann", base=base)


def test_a_killed_training_goes_on_and_ends_the_same(
    agent: PersonaAgent, base: Base, tmp_path: Path, ratings: Rated
) -> None:
    options = TrainOptions(rate=0.02, window=3, epochs=2, batch=3)

    def die(name: str, step: int, steps: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    files = agent._adapters
    assert files is not None
    trainer = Trainer(files, base, clock=lambda: NOW, save_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        trainer.user(Scope("ann"), OPTIONS_TASK, options, tell=die)
    assert agent.adapters() == []
    steps: list[int] = []
    resumed = learned(agent, base, "ann", options=options, tell=lambda name, i, n: steps.append(i))
    assert steps[0] == 4
    assert not (agent.adapter_folder(resumed.adapter.name) / STATE).exists()
    with PersonaAgent.open(
        tmp_path / "other.db", llm=None, embedder="hash", task=OPTIONS_TASK
    ) as other:
        other.add(ratings("ann", 20))
        whole = learned(other, base, "ann", options=options)
    assert whole.adapter.name == resumed.adapter.name
    assert whole.adapter.digest == resumed.adapter.digest


def test_forgetting_while_it_trains_leaves_nothing(
    agent: PersonaAgent, base: Base, tmp_path: Path
) -> None:
    def overtaken(name: str, step: int, steps: int) -> None:
        if step == 1:
            assert agent.forget("ann").outside["adapters on disk"] == 1

    (result,) = agent.train("ann", base=base, options=OPTIONS, tell=overtaken)
    assert isinstance(result.error, (UnknownUser, StoreError))
    assert agent.adapters() == []
    assert list((tmp_path / "persona.db.adapters").iterdir()) == []


class Host:
    """A host that notes what is loaded."""

    def __init__(self) -> None:
        self.loaded: dict[str, Path] = {}

    def adapters(self) -> frozenset[str]:
        return frozenset(self.loaded)

    def load_adapter(self, name: str, folder: Path) -> None:
        assert (folder / "adapter_config.json").is_file()
        self.loaded[name] = folder

    def unload_adapter(self, name: str) -> None:
        del self.loaded[name]


def test_a_host_loads_what_is_ready_and_unloads_what_is_forgotten(
    tmp_path: Path, ratings: Rated, base: Base
) -> None:
    host = Host()
    with PersonaAgent.open(tmp_path / "a.db", llm=None, embedder="hash") as agent:
        hosted = Hosted(agent.memory.store, host)
        agent.add([*ratings("ann", 12), *ratings("bob", 12)])
        for user in ("ann", "bob"):
            learned(agent, base, user, options=TrainOptions(epochs=1))
        files = agent._adapters
        assert files is not None
        assert hosted.sync(files, "default") == 2
        assert hosted.sync(files, "default") == 0
        agent._forgetters = {"adapters on a server": hosted, **agent._forgetters}
        assert agent.forget("ann").outside == {"adapters on a server": 1, "adapters on disk": 1}
        assert list(host.loaded) == [agent.adapters()[0].name]


def thinker() -> FakeLLM:
    """Return a model that thinks of the first memory, and says two stars of whatever it is asked."""
    return FakeLLM(
        lambda one: "They gave [1] little, and this is alike." if one.purpose == "think" else "2"
    )


def test_thoughts_that_led_to_what_users_did_are_learned(
    tmp_path: Path, ratings: Rated, rating_task: Task, base: Base
) -> None:
    database = tmp_path / "thinking.db"
    with PersonaAgent.open(database, llm=thinker(), embedder="hash", task=rating_task) as agent:
        for user in ("ann", "bob"):
            agent.add(ratings(user, 20))
        agent.add("I like tea.", user_id="new")
        how = TraceOptions(cases=8, samples=1)
        results = agent.distil(["ann", "new", "bob"], options=how, held_out=4)
        assert isinstance(results[1].error, NotEnoughData)
        ann, bob = results[0].unwrap(), results[2].unwrap()
        seen = {one.event for one in ann.traces}
        assert seen <= {f"ann-{i}" for i in range(8, 16)}  # the latest that are not held out
        assert (ann.cases, len(ann.traces), ann.dropped) == (8, 6, {"wrong": 2})
        traces = {"ann": ann.traces, "bob": bob.traces}
        options = replace(OPTIONS, method="traces")
        made = [
            one.unwrap()
            for one in agent.train(["ann", "bob"], base=base, options=options, traces=traces)
        ]
        for user, one in zip(("ann", "bob"), made, strict=True):
            sources = {source.event for source in sources_of(agent.memory.store, one.adapter)}
            read = {event for trace in traces[user] for event in (trace.event, *trace.shown)}
            assert read <= sources
            assert f"{user}-0" in read
            assert all(event.startswith(user) for event in sources)
        (without,) = agent.train("ann", base=base, options=options)
        assert isinstance(without.error, NotEnoughData)


def test_the_command_line_thinks_before_it_trains_on_thoughts(
    agent: PersonaAgent,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert agent.users() == ["ann", "bob", "eve"]
    monkeypatch.setattr("persona_agent.cli.settings.open_llm", lambda *_, **__: thinker())
    main(
        ["--db", str(tmp_path / "persona.db"), "train", "ann", "--method", "traces", "--cases", "4",
         "--samples", "1", "--base", str(tiny_folder), "--epochs", "1"]
    )  # fmt: skip
    thought, trained = capsys.readouterr().out.splitlines()
    assert thought == "ann: 3 traces of 4 cases, 4 thoughts; dropped: 1 wrong"
    assert trained.startswith("traces-")


def test_the_command_line_trains_lists_and_forgets(
    agent: PersonaAgent,
    base: Base,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*arguments: str) -> Any:  # Any: what was printed
        main(["--db", str(tmp_path / "persona.db"), "--json", *arguments])
        return json.loads(capsys.readouterr().out.splitlines()[0])

    recipe = ("--base", str(tiny_folder), "--epochs", "1")
    told = call("train", "ann", "bob", *recipe, "--held-out", "3")
    assert [one["user"] for one in told["results"]] == ["ann", "bob"]
    assert all(one["learned"]["fresh"] for one in told["results"])
    told = call("train", "ann", "bob", *recipe, "--held-out", "3")
    assert not any(one["learned"]["fresh"] for one in told["results"])
    told = call("train", "--cohort", *recipe)
    assert told["results"][0]["learned"]["adapter"]["user"] is None
    assert len(call("adapters", "list")) == 3
    assert len(call("adapters", "list", "--user", "ann")) == 1
    assert call("forget", "ann", "--yes")["outside"] == {"adapters on disk": 2}
    assert call("verify", "--canary", "ann-3")["problems"] == []
    with pytest.raises(SystemExit) as end:
        main(["train"])
    assert end.value.code == 2
    assert Scope("bob") in [Scope(one) for one in agent.users()]
