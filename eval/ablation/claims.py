"""What was claimed of memory and personas, and what the arms of a run say of it.

Sources: PRIME (Zhang, Beauchamp and Wang 2025, arXiv 2507.04607) and PersonaAgent (Zhang et al.
2025, arXiv 2506.06254). A claim is a difference between two arms; its verdict goes by the sign and
by p, corrected over all claims that could be tested (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from persona_agent.eval.ablation.effects import FAMILY, Scores, compare, likelihoods_of, scores_of
from persona_agent.eval.ablation.run import Run
from persona_agent.eval.statistics import Contrast, with_holm
from persona_agent.types import Record

LEVEL = 0.05
SHOWN = 8  # memories, at most: as many as personas show besides, not the longest of a curve
Verdict: TypeAlias = Literal["supported", "contradicted", "not decidable", "not tested"]


@dataclass(frozen=True, slots=True)
class Claim(Record):
    """A claim: who made it, what it says, and which arm then does better than which.

    `{k}` in an arm stands for the number of memories that both arms have.
    """

    source: str
    text: str
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class Judged(Record):
    """A claim with its verdict, and why: by the task's metric, and by the likelihood of the truth.

    The likelihood is the denser of the two: it tells smaller differences apart.
    """

    claim: Claim
    verdict: Verdict
    reason: str
    gain: Contrast | None = None
    by_likelihood: Verdict = "not tested"
    likelihood_gain: Contrast | None = None


def _prime(text: str, better: str, worse: str) -> Claim:
    return Claim("PRIME", text, better, worse)


def _agent(text: str, better: str, worse: str) -> Claim:
    return Claim("PersonaAgent", text, better, worse)


CLAIMS: tuple[Claim, ...] = (
    _prime("semantic memory beats episodic: a summary", "summary", "recent-{k}"),
    _prime("semantic memory beats episodic: facts", "facts", "recent-{k}"),
    _prime("semantic memory beats episodic: statistics", "profile", "recent-{k}"),
    _prime("semantic memory beats episodic: task-tuned weights", "lora-tft", "recent-{k}"),
    _prime("recent memories beat similar ones", "recent-{k}", "similar-{k}"),
    _prime("episodic memory helps at all", "recent-{k}", "none"),
    _prime("a summary beside memories backfires", "recent-{k}", "recent-{k}+summary"),
    _prime("dual memory (weights and memories) backfires", "lora-tft", "dual"),
    _prime("generic thinking hurts", "recent-{k}", "think-generic"),
    _prime("personal thinking beats generic thinking", "think-personal", "think-generic"),
    _prime("personal thinking beats none", "think-personal", "recent-{k}"),
    _prime("task tuning beats DPO", "lora-tft", "lora-dpo"),
    _prime("task tuning beats SimPO", "lora-tft", "lora-simpo"),
    _prime("input-only training helps already", "lora-ntp", "none"),
    _prime("all of it (PRIME) beats memories alone", "prime", "recent-{k}"),
    _prime("another's profile hurts: the most alike", "persona", "persona-similar-user"),
    _prime("another's profile hurts: a random one", "persona", "persona-random-user"),
    _prime(
        "the most alike hurts more than the least alike (the U)",
        "persona-similar-user-last",
        "persona-similar-user",
    ),
    _agent("alignment helps", "personaagent", "personaagent-no-alignment"),
    _agent("the persona helps", "personaagent", "personaagent-no-persona"),
    _agent("memory helps", "personaagent", "personaagent-no-memory"),
    _agent("action helps", "personaagent", "personaagent-no-action"),
    _agent("alignment helps, by the gate", "persona-aligned", "persona"),
    _agent("alignment helps, without a gate", "aligned-ungated", "persona"),
    Claim("ours", "the gate beats no gate", "persona-aligned", "aligned-ungated"),
    Claim("ours", "the likelihood judges better", "aligned-gate-likelihood", "aligned-gate-metric"),
    Claim("control", "real outcomes beat shuffled ones", "recent-{k}", "shuffled-outcomes"),
)
SAME = {"profile-only": "profile", "aligned-gate-likelihood": "persona-aligned"}


def judged(run: Run, claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Return every claim with its verdict, in order."""
    scores, likelihoods = _renamed(scores_of(run)), _renamed(likelihoods_of(run))
    arms = [_arms(claim, scores) for claim in claims]
    gains = _gains(scores, arms)
    dense = _gains(likelihoods, arms)
    return [
        _judge(claim, gains[place], dense.get(place), run.metric)
        if place in gains
        else Judged(claim, "not tested", _missing(claim, scores))
        for place, claim in enumerate(claims)
    ]


def _gains(scores: Scores, arms: Sequence[tuple[str, str] | None]) -> dict[int, Contrast]:
    """Return the difference of each pair of arms that can be had, as one family."""
    found = {
        str(place): gain
        for place, pair in enumerate(arms)
        if pair is not None and (gain := compare(scores, *pair)) is not None
    }
    return {int(place): gain for place, gain in with_holm(found).items()}


def _judge(claim: Claim, gain: Contrast, dense: Contrast | None, metric: str) -> Judged:
    likely = "not tested" if dense is None else _verdict(dense)
    told = f"{metric} gains {gain.interval}, p {gain.p_holm:.2g}"
    if dense is not None:
        told += f"; log-likelihood gains {dense.interval}, p {dense.p_holm:.2g}"
    verdict = _verdict(gain)
    if gain.deviation == 0:
        told = "both arms do the same for everybody"
    elif verdict == "not decidable":
        people = gain.interval.users
        told += f"; {people} people show a difference in {metric} of {gain.detectable:.3f} or more"
    return Judged(claim, verdict, told, gain, likely, dense)


def _verdict(gain: Contrast) -> Verdict:
    if gain.p_holm > LEVEL:
        return "not decidable"
    return "supported" if gain.interval.mean > 0 else "contradicted"


def _arms(claim: Claim, scores: Scores) -> tuple[str, str] | None:
    """Return the arms that test a claim, with the largest number of memories that both have."""
    for k in [*sorted(_numbers(scores), reverse=True), 0]:
        new, old = (SAME.get(one, one).format(k=k) for one in (claim.better, claim.worse))
        if new in scores and old in scores and new != old:
            return new, old
    return None


def _numbers(scores: Scores) -> list[int]:
    found = [FAMILY.fullmatch(name) for name in scores]
    return sorted({int(one[2]) for one in found if one and int(one[2]) <= SHOWN})


def _missing(claim: Claim, scores: Scores) -> str:
    wanted = [one.format(k=SHOWN) for one in (claim.better, claim.worse)]
    lacking = [one for one in wanted if SAME.get(one, one) not in scores] or wanted
    return f"the run lacks {' and '.join(lacking)}"


def _renamed(scores: Scores) -> Scores:
    return {**scores, **{SAME[name]: own for name, own in scores.items() if name in SAME}}
