"""Rounds of episodes from which UNICORN learns; a training that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from persona_agent.errors import InputError
from persona_agent.files import write_whole
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue import environment
from persona_agent.recommend.dialogue.environment import Episodes, Rules
from persona_agent.recommend.dialogue.policy import Situation
from persona_agent.recommend.dialogue.scores import VectorScores
from persona_agent.recommend.dialogue.unicorn.learner import Learner, choose
from persona_agent.recommend.dialogue.unicorn.network import Network
from persona_agent.recommend.dialogue.unicorn.policy import to_actions
from persona_agent.recommend.dialogue.unicorn.replay import Replay, Turns
from persona_agent.recommend.dialogue.unicorn.settings import Unicorn
from persona_agent.recommend.dialogue.unicorn.states import blank, states_of
from persona_agent.types import Record

FORMAT = 1
EPISODES = 100  # of a round


@dataclass(frozen=True, slots=True)
class Round(Record):
    """One round done: the share found, the mean turn (failures count all), reward and error."""

    number: int
    success: float
    turns: float
    reward: float
    error: float | None
    steps: int


@dataclass(eq=False)
class Training:
    """A learner, its replay and its chance, and the rounds so far."""

    scores: VectorScores
    rules: Rules
    settings: Unicorn
    learner: Learner = field(init=False)
    replay: Replay = field(init=False)
    rng: np.random.Generator = field(init=False)
    rounds: list[Round] = field(init=False, default_factory=list)
    steps: int = field(init=False, default=0)
    due: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        import torch

        if self.settings.turns < self.rules.turns:
            raise ValueError(
                f"the network has room for {self.settings.turns} turns, and the dialogue has "
                f"{self.rules.turns}"
            )
        scores = self.scores
        network = Network(scores.table, self.settings, len(scores.users))
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.seed)
            nodes = np.concatenate([scores.users, scores.items, scores.attributes])
            self.learner = Learner(network, network.start(nodes))
        self.replay = Replay(self.settings)
        self.rng = np.random.default_rng(self.settings.seed)

    def run(
        self,
        wanted: Interactions,
        rounds: int,
        *,
        episodes: int = EPISODES,
        on_round: Callable[[Round], None] | None = None,
    ) -> None:
        """Play and learn until so many rounds are done in all, the earlier ones included.

        The episodes of a round go on side by side; a round's users and items are drawn from
        `wanted`. The released code plays one after the other.
        """
        while len(self.rounds) < rounds:
            drawn = environment.drawn(self.scores.table, wanted, episodes, self.rng)
            self.rounds.append(self._round(drawn))
            if on_round is not None:
                on_round(self.rounds[-1])

    def _round(self, episodes: Episodes) -> Round:
        table, rules, settings = self.scores.table, self.rules, self.settings
        beliefs = environment.begin(table, episodes)
        states = states_of(
            self.scores, settings, Situation(beliefs, episodes.user, episodes.number, rules.turns)
        )
        count, found, turns, reward = len(episodes), 0, 0, 0.0
        errors: list[float] = []
        for turn in range(1, rules.turns + 1):
            action, worths = choose(self.learner.worths(states), self.rng, settings.explore)
            actions = to_actions(states, action, worths, len(table), settings.items)
            done = environment.step(table, rules, episodes, beliefs, actions)
            last = turn == rules.turns
            over = done.over | last
            rewards = done.reward + np.where(last & ~done.over, rules.ended, 0).astype(np.float32)
            going = np.flatnonzero(~over)
            after = blank(settings, len(episodes))
            if len(going):
                left = rules.turns - turn
                now = Situation(
                    done.beliefs.take(going), episodes.user[going], episodes.number[going], left
                )
                later = states_of(self.scores, settings, now)
                for name in later.__slots__:
                    getattr(after, name)[going] = getattr(later, name)
            taken = ~done.gave_up
            self.replay.add(
                Turns(
                    states.take(taken),
                    action[taken],
                    rewards[taken],
                    after.take(taken),
                    over[taken],
                )
            )
            errors += self._learn(int(taken.sum()))
            found += int((done.rank > 0).sum())
            turns += len(episodes)
            reward += float(rewards.sum())
            # who gave up counts as having used all turns
            turns += int(done.gave_up.sum()) * (rules.turns - turn)
            if not len(going):
                break
            episodes, beliefs, states = episodes.take(going), done.beliefs.take(going), later
        error = float(np.mean(errors)) if errors else None
        number = len(self.rounds) + 1
        return Round(number, found / count, turns / count, reward / count, error, self.steps)

    def _learn(self, turns: int) -> list[float]:
        """Take the steps that so many turns call for."""
        if len(self.replay) < self.settings.batch:
            return []
        self.due += turns / self.settings.every
        errors = []
        while self.due >= 1:
            errors.append(self.learner.learn(self.replay, self.rng))
            self.due -= 1
            self.steps += 1
        return errors

    def save(self, folder: str | Path) -> None:
        """Write all that going on needs; what was there is replaced once this is whole."""
        from safetensors.numpy import save as pack

        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        learner = self.learner
        arrays: dict[str, Any] = {f"replay.{n}": one for n, one in self.replay.to_arrays().items()}
        for prefix, found in (("now", learner.parameters), ("slow", learner.slow)):
            arrays |= {f"{prefix}.{name}": one.detach().numpy() for name, one in found.items()}
        for number, state in learner.adam.state_dict()["state"].items():
            arrays |= {f"adam.{number}.{name}": one.numpy() for name, one in state.items()}
        data = pack({name: np.ascontiguousarray(one) for name, one in arrays.items()})
        digest = hashlib.sha256(data).hexdigest()
        file = f"{digest[:16]}.safetensors"
        header: dict[str, Any] = {  # Any: JSON
            "format": FORMAT,
            "settings": self.settings.to_json(),
            "rules": self.rules.to_json(),
            "scores": self.fingerprint(),
            "rounds": [one.to_json() for one in self.rounds],
            "steps": self.steps,
            "due": self.due,
            "rng": self.rng.bit_generator.state,
            "arrays": file,
            "arrays_sha256": digest,
        }
        write_whole(home / file, data)
        write_whole(home / "training.json", json.dumps(header).encode())
        for old in home.glob("*.safetensors"):
            if old.name != file:
                old.unlink()

    def restore(self, folder: str | Path) -> None:
        """Go on from what `save` wrote.

        Raises InputError if it is not whole, or was of other settings, rules or vectors.
        """
        import torch
        from safetensors.numpy import load as unpack

        home = Path(folder)
        try:
            header = json.loads((home / "training.json").read_bytes())
            data = (home / header["arrays"]).read_bytes()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{home} holds no training of UNICORN: {error}") from error
        if (
            header["format"] != FORMAT
            or hashlib.sha256(data).hexdigest() != header["arrays_sha256"]
        ):
            raise InputError(f"{home} is not whole, or of another version; begin anew elsewhere")
        here = {
            "settings": self.settings.to_json(),
            "rules": self.rules.to_json(),
            "scores": self.fingerprint(),
        }
        for name, one in here.items():
            if header[name] != one:
                raise InputError(
                    f"{home} holds a training whose {name} are {header[name]}, here they are "
                    f"{one}; give this one another folder"
                )
        arrays = unpack(data)
        learner = self.learner
        with torch.no_grad():
            for prefix, found in (("now", learner.parameters), ("slow", learner.slow)):
                for name, one in found.items():
                    one.copy_(torch.from_numpy(arrays[f"{prefix}.{name}"].copy()))
        moments: dict[int, dict[str, Any]] = {}
        for name, value in arrays.items():
            if name.startswith("adam."):
                _, number, part = name.split(".")
                moments.setdefault(int(number), {})[part] = torch.from_numpy(value.copy())
        groups = learner.adam.state_dict()["param_groups"]
        learner.adam.load_state_dict({"state": moments, "param_groups": groups})
        kept = {
            name.removeprefix("replay."): one
            for name, one in arrays.items()
            if name.startswith("replay.")
        }
        self.replay = Replay.from_arrays(self.settings, kept)
        self.rounds = [Round(**one) for one in header["rounds"]]
        self.steps, self.due = header["steps"], header["due"]
        self.rng.bit_generator.state = header["rng"]

    def fingerprint(self) -> str:
        """Return a hash of the vectors that scores are made of."""
        digest = hashlib.sha256()
        for one in (self.scores.users, self.scores.items, self.scores.attributes):
            digest.update(one.astype("<f4").tobytes())
        return digest.hexdigest()[:16]
