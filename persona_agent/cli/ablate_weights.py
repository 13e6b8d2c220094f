"""Whose weights an ablation uses: named, taken from a database, or trained first; and who serves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from persona_agent.cli.settings import Settings
from persona_agent.cli.train import KEY
from persona_agent.closing import Closing
from persona_agent.distil import Distilled, TraceOptions
from persona_agent.errors import InputError
from persona_agent.llm import servable
from persona_agent.llm.served_adapters import ServedAdapters
from persona_agent.memory.adapter_files import AdapterFiles, adapters_path
from persona_agent.memory.screen import Screen
from persona_agent.memory.store import Store
from persona_agent.ports import LLM
from persona_agent.program import Result
from persona_agent.train.base import Base, fingerprint_of
from persona_agent.train.options import Method, TrainOptions
from persona_agent.train.traces import NO_TRACES, TracesByUser, by_user
from persona_agent.types import ModelReply, ModelRequest

if TYPE_CHECKING:
    from persona_agent.eval.ablation.cache import Budget
    from persona_agent.eval.tasks.task_set import TaskSet

Tell: TypeAlias = Callable[[str, int, int], None]

IN_PROCESS = "vllm:"
SQLITE = b"SQLite format 3\0"
TRAINED = "adapters.db"  # in the study's folder


@dataclass(frozen=True, slots=True)
class Weights:
    """Adapters by method and user, the folders to be loaded, and what is to be told of them."""

    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def named(path: Path) -> Weights:
    """Return the names of adapters in a JSON file; raises InputError for another form."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Weights(
            {
                str(method): {str(user): str(name) for user, name in own.items()}
                for method, own in found.items()
            }
        )
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read as adapters by method and user: {error}"
        ) from error


def stored(path: Path, sample: TaskSet, base: str, tenant: str) -> Weights:
    """Return the adapters of the people studied in a database that `persona-agent train` wrote to."""
    from persona_agent.eval.ablation.tuning import tuned_in  # late: numpy and the store

    with Store.open(path) as store:
        found = tuned_in(
            AdapterFiles(store, adapters_path(path)),
            sample.histories,
            base=fingerprint_of(Path(servable(base))),
            tenant=tenant,
        )
    count = sum(map(len, found.names.values()))
    told = f"{count} adapters of {len(sample.users)} people are used"
    return Weights(found.names, found.folders, (told, *found.refused))


def thoughts(
    folder: Path,
    sample: TaskSet,
    settings: Settings,
    options: TraceOptions,
    budget: Budget,
    tell: Tell,
) -> tuple[Mapping[str, Result[Distilled]], Budget]:
    """Let the model think about what the people studied did; return what came of it, and the budget left.

    What it replied is kept in `folder`, with the study's replies.
    """
    from persona_agent.eval.ablation.cache import Cache, CachedLLM
    from persona_agent.eval.ablation.study import CACHE
    from persona_agent.eval.ablation.tuning import distil_all

    folder.mkdir(parents=True, exist_ok=True)
    with Cache(folder / CACHE) as cache, Late(settings.model) as model:
        llm = CachedLLM(
            model,
            cache,
            settings.llm,
            budget=budget,
            tell=lambda done, due: tell("thinking", done, due),
        )
        found = distil_all(sample.histories, sample.task, llm, options)
    return found, budget.less(llm.asked, llm.tokens)


def trained(
    folder: Path,
    sample: TaskSet,
    base: str,
    options: TrainOptions,
    methods: tuple[Method, ...],
    distilled: Mapping[str, Result[Distilled]],
    tell: Tell,
) -> Weights:
    """Train adapters of the people studied on their histories, in `folder`, and return them.

    `distilled` is what `traces` learns. What was trained before is not trained again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TRAINED
    opened = Base.open(base)
    # The histories are what they are in the data set: a screen would make other events of them.
    with Store.open(path, screen=Screen(secrets="off")) as store:
        files = AdapterFiles(store, adapters_path(path))
        traces = by_user(distilled)
        failed = [
            note
            for method in methods
            for note in _failures(
                files,
                opened,
                sample,
                replace(options, method=method),
                traces if method == "traces" else NO_TRACES,
                tell,
            )
        ]
    found = stored(path, sample, base, "default")
    notes = found.notes
    if distilled:
        every = Distilled.of_all(one.unwrap() for one in distilled.values() if one.ok)
        notes = (str(every), *notes)
    return Weights(found.names, found.folders, (*notes, *failed))


def _failures(
    files: AdapterFiles,
    base: Base,
    sample: TaskSet,
    options: TrainOptions,
    traces: TracesByUser,
    tell: Tell,
) -> list[str]:
    """Train an adapter of each person by one method, and return who could not get one, and why."""
    from persona_agent.eval.ablation.tuning import tune

    done: set[str] = set()

    def told(name: str, step: int, steps: int) -> None:
        done.add(name)
        tell(f"training {options.method}", len(done) - (step < steps), len(sample.users))

    results = tune(
        files,
        base,
        sample.histories,
        sample.task,
        options,
        traces=traces,
        clock=lambda: datetime.now(UTC),
        tell=told,
    )
    return [
        f"{options.method} of {who}: {one.reason}" for who, one in results.items() if not one.ok
    ]


class Late(Closing):
    """A model that is loaded when it is first asked: a run that is all cached loads none."""

    def __init__(self, load: Callable[[], LLM]) -> None:
        self._load = load
        self._inner: LLM | None = None

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the model's replies, in order."""
        if self._inner is None:
            self._inner = self._load()
        return self._inner.complete(requests)

    def close(self) -> None:
        """Close the model, if it was loaded."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


def check_serves(settings: Settings, served: str | None) -> None:
    """Raise UsageError for a model that cannot be given adapters, before any is trained."""
    if served is None and not settings.llm.startswith(IN_PROCESS):
        raise click.UsageError(
            f"{settings.llm} serves no adapters; use --llm vllm:MODEL, or openai:MODEL with "
            "--served URL, of a server that serve-model --later started"
        )


def serving(settings: Settings, weights: Weights, served: str | None) -> LLM:
    """Return the model that is named, with the folders of adapters loaded."""
    if served is not None:
        host = ServedAdapters(served, api_key=settings.environ.get(KEY))
        there = host.adapters()
        for name, folder in weights.folders.items():
            if name not in there:
                host.load_adapter(name, folder)
    elif weights.folders:
        from persona_agent.llm.vllm import VLLM  # late: as `open_llm` does

        return VLLM(servable(settings.llm.removeprefix(IN_PROCESS)), adapters=weights.folders)
    return settings.model()
