"""The losses of preferences, as functions of log-probabilities.

They are written out, and the loop is plain, because trl's trainers get in the way here: each sets
up an accelerator that the whole process shares, which is state that goes from user to user, and a
data set of its own; a text with many learned outcomes is not among what they know; and loading
them takes longer than training on one user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def dpo(
    chosen: Tensor, rejected: Tensor, base_chosen: Tensor, base_rejected: Tensor, beta: float
) -> Tensor:
    """Return the mean loss of pairs, (n,) each, sums of log-probabilities of the outcomes.

    -log sigmoid(beta ((chosen - base_chosen) - (rejected - base_rejected)))
    Source: Rafailov et al. 2023, equation 7.
    """
    from torch.nn.functional import logsigmoid

    gain = (chosen - base_chosen) - (rejected - base_rejected)
    return -logsigmoid(beta * gain).mean()


def simpo(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """Return the mean loss of pairs, (n,) each, means of log-probabilities a token.

    -log sigmoid(beta (chosen - rejected) - gamma). Source: Meng et al. 2024, equation 6.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (chosen - rejected) - gamma).mean()
