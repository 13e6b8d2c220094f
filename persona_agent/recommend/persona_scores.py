"""How the personas of a person score items together: AMP-CF's two scorings, as pure functions.

Personas are (people, personas, width). Items are all of a catalogue (items, width), or for each
person its own (people, items, width). Sources: the authors' released code of 2023, and the paper
of 2020 as far as a second-hand version tells it (docs/recommend.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from persona_agent.recommend.training import Parameters, Tensor

Scoring: TypeAlias = Literal["2023", "2020"]
SCORINGS: tuple[Scoring, ...] = ("2023", "2020")


@dataclass(frozen=True, slots=True, eq=False)
class PersonaScores:
    """Scores (people, items); what `each` persona says, and `attention`: (people, personas, items).

    Attention sums to 1 over personas, and a score is the mean of `each` by it, plus what the item
    gets from everybody.
    """

    scores: Tensor
    each: Tensor
    attention: Tensor


def score_personas(
    arrays: Parameters, personas: Tensor, columns: Tensor | None = None
) -> PersonaScores:
    """Return how these personas score all items, or those of `columns` (people, items).

    2023: r_k = u_k . v, attention softmax_k(r), score sum_k softmax_k(r) r_k: a smooth maximum,
    between max_k r_k - log K and max_k r_k. 2020, if `arrays` has its parameters: attention
    softmax_k(cos(A_u u_k + c_u, A_v v + c_v) / temperature), and a bias of the item is added.
    """
    vectors = arrays["items"] if columns is None else arrays["items"][columns]
    each = personas @ vectors.mT
    if "bias" not in arrays:
        attention = each.softmax(dim=1)
        return PersonaScores((attention * each).sum(dim=1), each, attention)
    attention = cosine_attention(arrays, personas, vectors)
    bias = arrays["bias"] if columns is None else arrays["bias"][columns]
    return PersonaScores((attention * each).sum(dim=1) + bias, each, attention)


def cosine_attention(arrays: Parameters, personas: Tensor, vectors: Tensor) -> Tensor:
    """Return the attention of 2020, (people, personas, items).

    At temperature 1 no weight is above e^2 / (e^2 + K - 1), .71 for four personas: cosines lie
    between -1 and 1. Lower temperatures let one persona decide.
    """
    import torch.nn.functional as F

    asked = F.linear(personas, arrays["persona_map"], arrays["persona_shift"])
    offered = F.linear(vectors, arrays["item_map"], arrays["item_shift"])
    cosines = F.normalize(asked, dim=-1) @ F.normalize(offered, dim=-1).mT
    return (cosines / arrays["log_temperature"].exp()).softmax(dim=1)


def attention_entropy(attention: Tensor) -> Tensor:
    """Return the entropy of attention over personas in nats, (people, items), 0 to log K."""
    import torch

    return torch.special.entr(attention).sum(dim=1)


def start_scoring(scoring: Scoring, items: int, width: int, temperature: float) -> Parameters:
    """Return what a scoring learns beside the vectors, as it starts: nothing for 2023."""
    import torch
    from torch import nn

    if scoring == "2023":
        return {}
    return {
        "persona_map": nn.init.xavier_uniform_(torch.empty(width, width)),
        "persona_shift": torch.zeros(width),
        "item_map": nn.init.xavier_uniform_(torch.empty(width, width)),
        "item_shift": torch.zeros(width),
        "bias": torch.zeros(items),
        "log_temperature": torch.tensor(temperature).log(),
    }
