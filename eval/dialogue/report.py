"""The report of the study: report.md with tables and pictures, and results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from persona_agent.eval.dialogue.arms import UNICORNS, arms
from persona_agent.eval.dialogue.metrics import hierarchical_dcg, success, turns
from persona_agent.eval.dialogue.plots import draw
from persona_agent.eval.dialogue.study import Done, Run, curve, finished, names
from persona_agent.eval.statistics import Contrast, Interval, clustered_mean, contrast, with_holm
from persona_agent.recommend.dialogue.unicorn.training import Round
from persona_agent.types import Record

# SR@15, AT, hDCG on LastFM* as remembered from Deng et al. (2021); not checked with the paper.
PUBLISHED = {
    "Max Entropy": (0.669, 9.33, 0.257),
    "EAR": (0.595, 10.51, 0.230),
    "SCPR": (0.709, 8.43, 0.317),
    "UNICORN": (0.788, 7.58, 0.349),
}
# Which differences in turns are told, new less old.
PAIRS = (
    ("uncertainty-flat", "entropy-transe"),
    ("uncertainty-popular", "uncertainty-flat"),
    ("uncertainty-item-knn", "uncertainty-flat"),
    ("uncertainty-ease", "uncertainty-flat"),
    ("uncertainty-lightgcn", "uncertainty-flat"),
    ("uncertainty-amp-cf", "uncertainty-flat"),
    ("uncertainty-few-tags", "uncertainty-flat"),
    ("uncertainty-ease+few-tags", "uncertainty-few-tags"),
    ("doubting-wrong-05", "trusting-wrong-05"),
    ("doubting-wrong-10", "trusting-wrong-10"),
    ("doubting-wrong-20", "trusting-wrong-20"),
)


@dataclass(frozen=True, slots=True)
class Row(Record):
    """One arm over its seeds: intervals over users, and the range of SR@15 over seeds."""

    arm: str
    about: str
    seeds: int
    episodes: int
    success: Interval
    by_seed: tuple[float, ...]
    turns: Interval
    dcg: Interval
    asked: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Findings(Record):
    """All that the report tells."""

    rows: tuple[Row, ...]
    contrasts: dict[str, Contrast]
    curves: dict[str, tuple[Round, ...]]


def findings(folder: Path) -> Findings:
    """Return what the finished runs of a folder tell."""
    done = finished(folder)
    order = [*arms(), *UNICORNS]
    rows = tuple(
        _row([one for one in done if one.run.arm == name])
        for name in sorted(names(done), key=order.index)
    )
    by_name = {f"{new} - {old}": _turns_saved(done, new, old) for new, old in PAIRS}
    found = {name: one for name, one in by_name.items() if one is not None}
    seeds = sorted({one.run.seed for one in done} | {0})
    curves = {
        f"{name}-{seed}": tuple(curve(folder, name, seed)) for name in UNICORNS for seed in seeds
    }
    return Findings(
        rows, with_holm(found) if found else {}, {name: one for name, one in curves.items() if one}
    )


def write(folder: Path) -> Findings:
    """Write report.md, results.json and pictures to the folder, and return what they tell."""
    found = findings(folder)
    pictures = draw(found.rows, found.curves, folder)
    text = markdown(found, [one.name for one in pictures])
    (folder / "report.md").write_text(text, encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    return found


def markdown(found: Findings, pictures: Sequence[str]) -> str:
    """Return the report as Markdown."""
    lines = [
        "| arm | what it does | seeds | SR@15 | by seed | AT | hDCG@(15,10) | questions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        by_seed = ", ".join(f"{one:.3f}" for one in row.by_seed)
        lines.append(
            f"| {row.arm} | {row.about} | {row.seeds} | {_level(row.success, 3)} | {by_seed} | "
            f"{_level(row.turns, 2)} | {_level(row.dcg, 3)} | {row.asked:.1f} |"
        )
    for name, (rate, turn, dcg) in PUBLISHED.items():
        lines.append(f"| *{name}* | *published, as remembered* | | {rate} | | {turn} | {dcg} | |")
    parts = ["# Ask or recommend on Last.FM*", "\n".join(lines)]
    if found.contrasts:
        parts.append("Turns, new less old (failures count 15; intervals over users, p by Holm):")
        told = ["| new - old | turns | p |", "|---|---|---|"]
        for name, one in found.contrasts.items():
            told.append(f"| {name} | {_level(one.interval, 2, sign=True)} | {one.p_holm:.2g} |")
        parts.append("\n".join(told))
    for name, rounds in found.curves.items():
        parts.append(_curve(name, rounds))
    parts += [f"![{one.removesuffix('.png')}]({one})" for one in pictures]
    return "\n\n".join(parts) + "\n"


def _row(done: Sequence[Done]) -> Row:
    run: Run = done[0].run
    most = run.rules.turns
    columns = [
        {
            "success": success(one.found, most),
            "turns": turns(one.found, most),
            "dcg": hierarchical_dcg(one.found),
        }
        for one in done
    ]
    users = np.concatenate([one.user for one in done])
    joined = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    seconds = sum(one.run.seconds for one in done)
    return Row(
        run.arm,
        run.about,
        len(done),
        run.episodes,
        _interval(joined["success"], users),
        tuple(float(one["success"].mean()) for one in columns),
        _interval(joined["turns"], users),
        _interval(joined["dcg"], users),
        float(np.mean([one.found.asked.mean() for one in done])),
        sum(one.run.episodes for one in done) / max(seconds, 1e-9),
    )


def _interval(values: np.ndarray, users: np.ndarray) -> Interval:
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order])) + 1
    parts = np.split(values[order], bounds)
    return clustered_mean({str(at): part.tolist() for at, part in enumerate(parts)}, draws=2000)


def _turns_saved(done: Sequence[Done], new: str, old: str) -> Contrast | None:
    """Return the difference in turns over the seeds that both have, None without any."""
    by_seed = {
        name: {one.run.seed: one for one in done if one.run.arm == name} for name in (new, old)
    }
    both = sorted(by_seed[new].keys() & by_seed[old].keys())
    if not both:
        return None
    differences, users = [], []
    for seed in both:
        first, second = by_seed[new][seed], by_seed[old][seed]
        most = first.run.rules.turns
        differences.append(turns(first.found, most) - turns(second.found, most))
        users.append(first.user)
    named = np.concatenate(users).astype(str).astype(object)
    return contrast(np.concatenate(differences), named, draws=2000)


def _level(one: Interval, digits: int, *, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{one.mean:{plus}.{digits}f} [{one.low:{plus}.{digits}f}, {one.high:{plus}.{digits}f}]"


def _curve(name: str, rounds: Sequence[Round]) -> str:
    shown = [one for one in rounds if one.number == 1 or one.number % 5 == 0]
    lines = [f"Training of {name}, 100 episodes a round:", ""]
    lines += ["| round | SR@15 | turns | reward | steps |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.number} | {one.success:.2f} | {one.turns:.2f} | {one.reward:.3f} | {one.steps} |"
        for one in shown
    ]
    return "\n".join(lines)
