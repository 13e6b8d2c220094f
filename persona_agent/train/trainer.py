"""From a store to adapters in it: what is read, trained, judged, and kept with its lineage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from persona_agent.distil import Trace
from persona_agent.errors import NotEnoughData, PersonaAgentError, StoreError, UnknownUser
from persona_agent.files import write_whole
from persona_agent.memory.adapter_files import WEIGHTS, AdapterFiles, digest_of
from persona_agent.memory.adapter_rows import Adapter, Source, hashes_of
from persona_agent.memory.adapters import adapters_of, begin
from persona_agent.memory.rows import owner_of
from persona_agent.program import Result
from persona_agent.task import Task, is_labelled
from persona_agent.train.base import Base, Weights, lora_config
from persona_agent.train.encode import preferences_of, rows_of
from persona_agent.train.examples import Example, cut_of, earlier, examples
from persona_agent.train.loop import SAVE_S, Material, State, train
from persona_agent.train.options import TrainOptions
from persona_agent.train.score import Ask, asks_of, mean_nats, option_logprobs
from persona_agent.train.traces import NO_TRACES, TracesByUser
from persona_agent.types import Interaction, Json, Record, Scope

if TYPE_CHECKING:
    from torch import Tensor

LINEAGE = "adapter.json"
STATE = "state.safetensors"
FORMAT = 1

# Told whose adapter it is, and the updates done and due.
Tell: TypeAlias = Callable[[str, int, int], None]


def quietly(name: str, step: int, steps: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Learned(Record):
    """An adapter, and how it came to be.

    `examples` are the texts that it was trained on, `learned` the interactions in them. `losses`
    are the mean over the first and the last tenth of the updates. `fresh` is false if it was there
    already, made of the same data in the same way: then nothing was trained.
    """

    adapter: Adapter
    examples: int = 0
    learned: int = 0
    losses: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    fresh: bool = True

    @property
    def gain(self) -> float | None:
        """Nats by which held-out outcomes are likelier with the adapter; None if none were."""
        scores = self.adapter.scores
        base, own = scores.get("base_nats"), scores.get("nats")
        if not isinstance(base, float) or not isinstance(own, float):
            return None
        return base - own

    def __str__(self) -> str:
        if not self.fresh:
            return f"{self.adapter}, as it was"
        told = f"{self.adapter}, {self.learned} interactions, {self.seconds:.1f} s"
        if self.gain is not None:
            told += f", held-out outcomes {self.gain:+.3f} nats likelier"
        return told


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What one adapter is made of and judged by."""

    user: str | None
    sources: tuple[Source, ...]
    examples: tuple[Example, ...]
    asks: tuple[Ask, ...]


class Trainer:
    """Trains adapters on a store's interactions, one after another; not for two threads at once.

    What was trained before, for the same data, options and base, is not trained again. What was
    stopped goes on. An adapter whose source is forgotten while it is made is never kept.
    """

    def __init__(
        self,
        files: AdapterFiles,
        base: Base,
        *,
        clock: Callable[[], datetime],
        save_s: float = SAVE_S,
    ) -> None:
        """Keep adapters of `base` in `files`; half-way states are saved about every `save_s` s."""
        self._save_s = save_s
        self._files = files
        self._store = files.store
        self._base = base
        self._now = clock

    def user(
        self,
        scope: Scope,
        task: Task,
        options: TrainOptions,
        *,
        start: Adapter | None = None,
        traces: Sequence[Trace] = (),
        tell: Tell = quietly,
    ) -> Learned:
        """Return the adapter of one user; raises NotEnoughData, StoreError or Diverged."""
        lesson = self._lesson(scope, task, options, traces)
        return self._learn(scope.tenant, lesson, options, start, tell)

    def cohort(
        self,
        scopes: Sequence[Scope],
        task: Task,
        options: TrainOptions,
        *,
        tell: Tell = quietly,
    ) -> Learned:
        """Return the adapter of several users of one tenant together, in the order of their names.

        Users with nothing to learn from are left out; raises NotEnoughData if that is all.
        """
        tenants = {scope.tenant for scope in scopes}
        if len(tenants) != 1:
            raise ValueError(f"a cohort is of one tenant; these are of {sorted(tenants)}")
        lessons = []
        for scope in sorted(scopes, key=lambda one: one.user):
            try:
                lessons.append(self._lesson(scope, task, options, ()))
            except NotEnoughData:
                continue
        if not lessons:
            raise NotEnoughData(f"none of {len(scopes)} users has anything to learn from")
        together = _Lesson(
            None,
            tuple(one for lesson in lessons for one in lesson.sources),
            tuple(one for lesson in lessons for one in lesson.examples),
            tuple(one for lesson in lessons for one in lesson.asks),
        )
        return self._learn(tenants.pop(), together, options, None, tell)

    def _lesson(
        self, scope: Scope, task: Task, options: TrainOptions, traces: Sequence[Trace]
    ) -> _Lesson:
        owner = owner_of(scope)
        with self._store.snapshot() as snapshot:
            history = snapshot.find(scope.owner)
            hashes = hashes_of(snapshot.connection, owner, [one.id for one in history])
        cut = cut_of(history, options.held_out)
        asks = _asked_later(history, task, options, cut)
        made = examples(history, task, options, cut=cut, traces=traces, render=self._base.render)
        known = {one.id for one in earlier(history, cut)}
        used = sorted({event for one in made for event in one.events} & known)
        sources = tuple(Source(scope.user, event, hashes[event]) for event in used)
        return _Lesson(scope.user, sources, tuple(made), tuple(asks))

    def _learn(
        self,
        tenant: str,
        lesson: _Lesson,
        options: TrainOptions,
        start: Adapter | None,
        tell: Tell,
    ) -> Learned:
        adapter = Adapter(
            name_of(
                tenant, lesson.user, lesson.sources, lesson.examples, options, start, self._base
            ),
            tenant,
            lesson.user,
            options.method,
            self._base.spec,
            self._base.fingerprint,
            self._now(),
            None if start is None else start.name,
            _plain(options),
        )
        for known in adapters_of(self._store, tenant):
            if known.name == adapter.name and (self._files.root / known.name).is_dir():
                return Learned(known, len(lesson.examples), fresh=False)
        encode = preferences_of if options.is_preference else rows_of
        material: Material = encode(self._base.tokenizer, lesson.examples, options.max_tokens)
        weights = None if start is None else read_weights(self._files.path(start.name))
        with self._files.making(adapter.name) as folder:
            begin(self._store, adapter, lesson.sources)
            try:
                done = train(
                    self._base,
                    material,
                    options,
                    start=weights,
                    resume=_read_state(folder),
                    save=lambda state: _write_state(folder, state),
                    save_s=self._save_s,
                    tell=lambda step, steps: tell(adapter.name, step, steps),
                )
                adapter = replace(adapter, scores=self._scores(lesson, options, done.weights))
                adapter = _write(folder, adapter, lesson.sources, options, done.weights)
            except FileNotFoundError as error:
                raise UnknownUser(
                    f"what adapter {adapter.name} is made of was forgotten; it is not kept"
                ) from error
            self._files.publish(adapter)
        tenth = max(1, len(done.losses) // 10)
        return Learned(
            adapter,
            len(material),
            done.learned // options.epochs,
            (_mean(done.losses[:tenth]), _mean(done.losses[-tenth:])),
            done.seconds,
        )

    def _scores(self, lesson: _Lesson, options: TrainOptions, weights: Weights) -> dict[str, Json]:
        """Return what held-out outcomes say of the adapter; nothing where none are held out."""
        if not lesson.asks:
            return {}
        asks, most = lesson.asks, options.max_tokens
        plain = option_logprobs(self._base, self._base.model, asks, most)
        with self._base.adapted(options, weights) as model:
            model.eval()
            adapted = option_logprobs(self._base, model, asks, most)
        return {
            "held_out": sum(len(one.spans) for one in asks),
            "base_nats": mean_nats(plain, asks),
            "nats": mean_nats(adapted, asks),
        }


def train_all(
    files: AdapterFiles,
    base: Base,
    scopes: Sequence[Scope],
    task_of: Callable[[Scope], Task],
    options: TrainOptions,
    *,
    cohort: bool = False,
    start: str | None = None,
    traces: TracesByUser = NO_TRACES,
    clock: Callable[[], datetime],
    tell: Tell = quietly,
) -> list[Result[Learned]]:
    """Return a result for each scope, or one for the cohort of all; one failing disturbs no other.

    `traces` are by user. Raises ValueError for no users, or a cohort that is to begin with something
    or has traces; StoreError for an adapter to begin with that is not there, or is of another base.
    """
    if not scopes:
        raise ValueError("there is nobody to train on; name users, or add interactions first")
    if cohort and (start is not None or traces):
        raise ValueError("a cohort's adapter begins with nothing and has no traces")
    begin_with = None if start is None else _named(files, scopes[0].tenant, start, base)
    trainer = Trainer(files, base, clock=clock)
    results: list[Result[Learned]] = []
    for scope in scopes[:1] if cohort else scopes:
        try:
            if cohort:
                made = trainer.cohort(scopes, task_of(scope), options, tell=tell)
            else:
                made = trainer.user(
                    scope,
                    task_of(scope),
                    options,
                    start=begin_with,
                    traces=traces.get(scope.user, ()),
                    tell=tell,
                )
            results.append(Result(made))
        except (PersonaAgentError, ValueError) as error:
            results.append(Result(error=error))
    return results


def _named(files: AdapterFiles, tenant: str, name: str, base: Base) -> Adapter:
    for one in adapters_of(files.store, tenant):
        if one.name == name:
            if one.base_hash != base.fingerprint:
                raise StoreError(f"the adapter {name} is of another base, {one.base!r}")
            return one
    raise StoreError(
        f"there is no adapter {name!r} to begin with; adapters are listed by `adapters`"
    )


def name_of(
    tenant: str,
    user: str | None,
    sources: Sequence[Source],
    taught: Sequence[Example],
    options: TrainOptions,
    start: Adapter | None,
    base: Base,
) -> str:
    """Return the name of an adapter: its method, and a hash of all that decides what it becomes.

    It names nobody, and serves as a folder's name and as a model's.
    """
    parts = [
        tenant,
        user,
        [one.to_json() for one in sources],
        [one.to_json() for one in taught],
        options.to_json(),
        None if start is None else start.name,
        base.fingerprint,
    ]
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
    return f"{options.method}-{digest[:20]}"


def read_weights(folder: Path) -> Weights:
    """Return an adapter's weights by peft's names; raises StoreError if they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: Weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"the weights in {folder} cannot be read: {error}") from error
    return found


def _asked_later(
    history: Sequence[Interaction], task: Task, options: TrainOptions, cut: datetime | None
) -> list[Ask]:
    """Return what the outcomes from the cut on are asked: of the same moment, all."""
    if cut is None:
        return []
    count = sum(is_labelled(one) and one.when >= cut for one in history)
    return asks_of(history, task, count, options)


def _write(
    folder: Path,
    adapter: Adapter,
    sources: Sequence[Source],
    options: TrainOptions,
    weights: Weights,
) -> Adapter:
    """Write what a folder of an adapter holds, as peft and vLLM read it; return it with its hash."""
    from safetensors.torch import save

    (folder / WEIGHTS).write_bytes(save(dict(weights)))
    config = {"peft_type": "LORA", "base_model_name_or_path": adapter.base, **lora_config(options)}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"inference_mode": True}))
    done = replace(adapter, digest=digest_of(folder))
    lineage = {"format": FORMAT, **_plain(done), "sources": [one.to_json() for one in sources]}
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=1, ensure_ascii=False))
    (folder / STATE).unlink(missing_ok=True)
    return done


def _write_state(folder: Path, state: State) -> None:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = dict(state.tensors)
    told = {"step": str(state.step), "losses": json.dumps(state.losses)}
    write_whole(folder / STATE, save(tensors, told))


def _read_state(folder: Path) -> State | None:
    """Return the state that an earlier try left; None if there is none."""
    from safetensors import safe_open

    path = folder / STATE
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    return State(int(told["step"]), tuple(json.loads(told["losses"])), tensors)


def _plain(value: Record) -> dict[str, Json]:
    found = value.to_json()
    if not isinstance(found, dict):
        raise TypeError(f"{type(value).__name__} is no object in JSON")
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
