"""How fast adapters are trained, beside the plain loop that one writes with peft.

Both learn real ratings by the same rank, layers and optimiser, in the same process, one after the
other. The plain loop reads a text for each rating, its memories again each time, pads four to a
batch, and computes the whole output layer; ours reads a window once and learns all ratings in it.
A rating has half a window of memories on average there, and as many in the plain loop's texts.
Preferences are learned from the same windows, and from two texts for each rating, chosen and
rejected.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from persona_agent.eval import movielens
from persona_agent.eval.movielens import RATING
from persona_agent.train.base import Base, lora_config
from persona_agent.train.encode import Fork, Row, preferences_of, rows_of
from persona_agent.train.examples import Example, examples
from persona_agent.train.loop import CLIP, train
from persona_agent.train.options import TrainOptions
from persona_agent.types import Interaction

OPTIONS = TrainOptions(epochs=1)
PADDED = 4


def measure(*, quick: bool, base: Base | None = None) -> dict[str, float | None]:
    """Return the figures of training on `base`, by default the embedded model.

    `examples_per_s` are ratings learned a second, by ours; `speedup_vs_plain_peft` is that by what
    the plain loop learns a second; `speedup_same_texts` the same where ours, too, gets a text for
    each rating: what skipping the output layer and the padding is worth alone.
    `preferences_per_s` are ratings learned a second by DPO, its reference included, and
    `speedup_vs_pairs` that by what it learns a second from pairs of texts.
    """
    windows, alone = (2, 8) if quick else (6, 24)
    history = _history(windows * OPTIONS.window)
    base = Base.open("local") if base is None else base
    rows = rows_of(base.tokenizer, examples(history, RATING, OPTIONS), OPTIONS.max_tokens)
    single = rows_of(base.tokenizer, _alone(history, alone), OPTIONS.max_tokens)
    train(base, single[:1], OPTIONS)  # the first reading is slower for everybody
    ours = train(base, rows, OPTIONS)
    same = train(base, single, OPTIONS)
    plain = _plain(base, single)
    options = replace(OPTIONS, method="dpo")
    forks = preferences_of(base.tokenizer, examples(history, RATING, options), OPTIONS.max_tokens)
    preferred = train(base, forks, options)
    preferences = preferred.learned / preferred.seconds
    pairs = [pair for one in forks[:1] if isinstance(one, Fork) for pair in one.pairs()]
    paired = train(base, pairs, options)
    rate = sum(row.count for row in rows) / ours.seconds
    return {
        "examples_per_s": rate,
        "speedup_vs_plain_peft": rate * plain / len(single),
        "speedup_same_texts": plain / same.seconds,
        "plain_examples_per_s": len(single) / plain,
        "preferences_per_s": preferences,
        "speedup_vs_pairs": preferences * paired.seconds / paired.learned,
        "tokens_per_s": sum(len(row.tokens) for row in rows) / ours.seconds,
        "examples": float(sum(row.count for row in rows)),
    }


def _history(count: int) -> list[Interaction]:
    data = movielens.load()
    user = next(user for user, ratings in data.ratings.items() if len(ratings) >= count)
    return [movielens.interaction(data, one) for one in data.ratings[user][:count]]


def _alone(history: Sequence[Interaction], count: int) -> list[Example]:
    """Return texts of one learned rating each, after half a window of memories."""
    half = OPTIONS.window // 2
    made = []
    for end in range(half, half + count):
        (window,) = examples(history[end - half : end + 1], RATING, OPTIONS)
        made.append(Example(window.text, window.learned[-1:], window.events[-1:]))
    return made


def _plain(base: Base, rows: Sequence[Row]) -> float:
    """Return the seconds of the loop that peft's examples show: padded batches, masked labels."""
    import peft
    import torch

    begun = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        model = peft.get_peft_model(base.model, peft.LoraConfig(**lora_config(OPTIONS)))
        model.train()
        learned = [one for one in model.parameters() if one.requires_grad]
        update = torch.optim.AdamW(learned, lr=OPTIONS.used_rate, weight_decay=OPTIONS.decay)
        for start in range(0, len(rows), OPTIONS.batch):
            some = rows[start : start + OPTIONS.batch]
            for place in range(0, len(some), PADDED):
                batch = some[place : place + PADDED]
                longest = max(len(row.tokens) for row in batch)
                ids = torch.zeros((len(batch), longest), dtype=torch.long)
                seen = torch.zeros_like(ids)
                labels = torch.full_like(ids, -100)
                for line, row in enumerate(batch):
                    ids[line, : len(row.tokens)] = torch.tensor(row.tokens)
                    seen[line, : len(row.tokens)] = 1
                    for at in row.learned:
                        labels[line, at] = row.tokens[at]
                given = {"input_ids": ids, "attention_mask": seen, "labels": labels}
                given = {name: one.to(base.place) for name, one in given.items()}
                (model(**given).loss * len(batch) / len(some)).backward()
            torch.nn.utils.clip_grad_norm_(learned, CLIP)
            update.step()
            update.zero_grad(set_to_none=True)
    base.model = model.unload().requires_grad_(False).eval()
    return time.monotonic() - begun
