"""What aligning many users cost: tokens, seconds, and an estimate of GPU-hours."""

from __future__ import annotations

from dataclasses import dataclass

from persona_agent.types import Json, Record, Usage

ASSUMES = (
    "gpu_hours_per_1000_users takes every second in which an engine was asked as {gpus:g} GPU "
    "in full use, on the hardware of this run; where workers share an endpoint's GPU, give each "
    "worker its share of it. Tokens are as the engine reports them; those of workers that died "
    "in a batch are not known and not counted."
)


@dataclass(frozen=True, slots=True)
class Cost(Record):
    """What a run cost. Users whom an earlier run had done cost nothing and are not in `users`.

    `seconds` is wall-clock time; `worker_seconds` adds up the time that workers had a batch, lost
    ones too; `engine_seconds` the time that their engines were asked. `gpus` is how many GPUs an
    engine is taken to occupy.
    """

    users: int
    usage: Usage
    seconds: float
    worker_seconds: float
    engine_seconds: float
    gpus: float = 1.0

    @property
    def gpu_hours_per_1000_users(self) -> float:
        """The estimate that `assumes` explains; 0 where no user was done."""
        return self._each(self.engine_seconds * self.gpus / 3600) * 1000

    @property
    def assumes(self) -> str:
        """What the estimate of GPU-hours takes for granted."""
        return ASSUMES.format(gpus=self.gpus)

    def figures(self) -> dict[str, float]:
        """Return all figures, flat: totals, then what they come to by user."""
        usage = self.usage
        return {
            "users": self.users,
            "requests": usage.requests,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "seconds": self.seconds,
            "worker_seconds": self.worker_seconds,
            "engine_seconds": self.engine_seconds,
            "users_per_s": self.users / self.seconds if self.seconds else 0.0,
            "requests_per_user": self._each(usage.requests),
            "prompt_tokens_per_user": self._each(usage.prompt_tokens),
            "completion_tokens_per_user": self._each(usage.completion_tokens),
            "cached_share": usage.cached_tokens / usage.prompt_tokens
            if usage.prompt_tokens
            else 0.0,
            "gpus": self.gpus,
            "gpu_hours_per_1000_users": self.gpu_hours_per_1000_users,
        }

    def to_json(self) -> dict[str, Json]:
        """Return the figures and what they assume, as plain JSON data."""
        return {**self.figures(), "assumes": self.assumes}

    def __str__(self) -> str:
        usage, found = self.usage, self.figures()
        return (
            f"{self.users} users in {self.seconds:.1f} s ({found['users_per_s']:.2f} a second): "
            f"{usage.requests} requests, {usage.prompt_tokens} prompt tokens "
            f"({found['cached_share']:.0%} cached), {usage.completion_tokens} completion tokens; "
            f"engines busy {self.engine_seconds:.1f} s of {self.worker_seconds:.1f} worker-seconds, "
            f"{found['gpu_hours_per_1000_users']:.3g} GPU-hours per 1,000 users if an engine is "
            f"{self.gpus:g} GPU"
        )

    def _each(self, total: float) -> float:
        return total / self.users if self.users else 0.0
