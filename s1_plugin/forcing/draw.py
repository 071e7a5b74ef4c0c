"""The draw that forcing owns: one number per position, one token per number.

A token is found by inverting the cumulative distribution at a number that depends on the seed,
the sequence and the position only. So a draw is exact, needs no sort, can be repeated, and does
not depend on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def uniform(seed: int, stream: str, position: int, attempt: int = 0) -> float:
    """A number in [0, 1) that depends on nothing but its arguments (53 random bits).

    ``attempt`` counts draws at one position: a second one, after an end that an empty Wait string
    dropped, must not be made with the number that led to the end.
    """
    key = f"{seed}/{position}/{attempt}/{stream}".encode()
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 11) / 2**53


def draw(scores: torch.Tensor, numbers: Sequence[float]) -> list[int]:
    """One token per row.

    Args:
        scores: (rows, vocabulary) warped logits, -inf where a token was cut.
        numbers: one `uniform` number per row.
    """
    # In float32 the rounding of a sum over a large vocabulary would show in the law.
    weights = torch.softmax(scores.double() if scores.device.type == "cpu" else scores, dim=-1)
    cumulative = weights.cumsum(dim=-1)
    number = torch.tensor(numbers, dtype=cumulative.dtype, device=cumulative.device).unsqueeze(1)
    tokens = torch.searchsorted(cumulative, number * cumulative[:, -1:], right=True)
    # Rounding may point past the last token of non-zero weight.
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).int().argmax(dim=-1, keepdim=True)
    return torch.minimum(tokens, last).squeeze(1).tolist()
