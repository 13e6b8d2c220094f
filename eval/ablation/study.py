"""The whole of an ablation in one call: run, table, curves, verdicts, files, data frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_agent.errors import PersonaAgentError
from persona_agent.eval.ablation.cache import Budget, Cache
from persona_agent.eval.ablation.claims import Judged, judged
from persona_agent.eval.ablation.effects import Curve, Row, curves_of, rows_of
from persona_agent.eval.ablation.run import Example, Run, Settings, Spent, Tell, run_arms
from persona_agent.eval.statistics import Contrast
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.files import replacing, write_whole
from persona_agent.ports import LLM, Embedder
from persona_agent.types import Record

if TYPE_CHECKING:
    from pandas import DataFrame

CACHE = "cache.db"
INSTALL = 'pip install "persona-agent-framework[eval]"'


@dataclass(frozen=True)  # not slotted: the frames are made when they are first asked for
class Ablation(Record):
    """What an ablation found. The data frames need the extra `eval`."""

    run: Run
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    claims: tuple[Judged, ...]

    @cached_property
    def table(self) -> DataFrame:
        """A row an arm: metrics, gains over the reference with intervals, cost."""
        return frame([_flat(row) for row in self.rows])

    @cached_property
    def examples(self) -> DataFrame:
        """A row an arm and query: what was predicted, and how good that is."""
        return frame([_plain(one) for one in self.run.examples])

    @cached_property
    def spent(self) -> DataFrame:
        """A row an arm and person: what it cost, and why it failed, if it did."""
        return frame([_plain(one) for one in self.run.spent])

    @cached_property
    def verdicts(self) -> DataFrame:
        """A row a claim: source, claim, verdict, reason, gain."""
        return frame(
            [
                {
                    "source": one.claim.source,
                    "claim": one.claim.text,
                    "better": one.claim.better,
                    "worse": one.claim.worse,
                    "verdict": one.verdict,
                    "by_likelihood": one.by_likelihood,
                    "reason": one.reason,
                    **_contrast("gain", one.gain),
                    **_contrast("loglik_gain", one.likelihood_gain),
                }
                for one in self.claims
            ]
        )


def ablate(
    tasks: TaskSet,
    llm: LLM,
    settings: Settings,
    folder: Path,
    *,
    model: str,
    embedder: Embedder,
    adapters: Mapping[str, Mapping[str, str]] | None = None,
    budget: Budget | None = None,
    tell: Tell = lambda stage, done, due: None,
) -> Ablation:
    """Run an ablation and return what it found; replies are kept in `folder`, see `run_arms`.

    A run that was stopped goes on, and one that is repeated asks the model nothing. `model` is
    the name under which replies are kept: give another model another name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Cache(folder / CACHE) as cache:
        run = run_arms(
            tasks,
            llm,
            settings,
            cache,
            model=model,
            embedder=embedder,
            adapters=adapters,
            budget=budget,
            tell=tell,
        )
    return Ablation(run, tuple(rows_of(run)), tuple(curves_of(run)), tuple(judged(run)))


def keep(found: Ablation, folder: Path) -> list[Path]:
    """Write examples.parquet, spent.parquet and results.json, each whole, and return their paths."""
    paths = []
    for name, table in (("examples", found.examples), ("spent", found.spent)):
        path = folder / f"{name}.parquet"
        with replacing(path) as draft:
            table.to_parquet(draft)
        paths.append(path)
    results = {
        "task": found.run.task,
        "model": found.run.model,
        "settings": found.run.settings.to_json(),
        "asked": found.run.asked,
        "rows": [row.to_json() for row in found.rows],
        "curves": [one.to_json() for one in found.curves],
        "claims": [one.to_json() for one in found.claims],
    }
    path = folder / "results.json"
    write_whole(path, json.dumps(results, indent=1, ensure_ascii=False))
    return [*paths, path]


def frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:  # Any: numbers and texts of columns
    """Return rows as a data frame; raises PersonaAgentError where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise PersonaAgentError(f"data frames need pandas and pyarrow: {INSTALL}") from error
    return pandas.DataFrame(list(rows))


def _plain(one: Example | Spent) -> dict[str, Any]:  # Any: see `frame`
    return {field.name: getattr(one, field.name) for field in fields(one)}


def _flat(row: Row) -> dict[str, Any]:  # Any: see `frame`
    return {
        "arm": row.arm,
        **row.metrics,
        "loglik": row.loglik,
        **_contrast("gain", row.gain),
        **_contrast("loglik_gain", row.loglik_gain),
        "worse": row.worse,
        "users": row.users,
        "failed": row.failed,
        "requests": row.requests,
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "seconds": row.seconds,
        "about": row.about,
    }


def _contrast(name: str, one: Contrast | None) -> dict[str, float | None]:
    keys: Mapping[str, Callable[[Contrast], float]] = {
        "": lambda gain: gain.interval.mean,
        "_low": lambda gain: gain.interval.low,
        "_high": lambda gain: gain.interval.high,
        "_p": lambda gain: gain.p,
        "_p_holm": lambda gain: gain.p_holm,
        "_detectable": lambda gain: gain.detectable,
    }
    return {name + key: None if one is None else value(one) for key, value in keys.items()}
