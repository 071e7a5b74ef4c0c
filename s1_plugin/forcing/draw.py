"""The draw that forcing owns: one number per position, one token per number.

A token is found by inverting the cumulative distribution at a number that depends on the seed,
the sequence and the position only. So a draw is exact, needs no sort, can be repeated, and does
not depend on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch


def uniform(seed: int, stream: str, position: int, attempt: int = 0) -> float:
    """A number in [0, 1) that depends on nothing but its arguments (53 random bits).

    ``attempt`` counts draws at one position: a second one, after an end that an empty Wait string
    dropped, must not be made with the number that led to the end.
    """
    key = f"{seed}/{position}/{attempt}/{stream}".encode()
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 11) / 2**53


def upload(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """``values`` as a tensor on ``device``; the host does not wait for the copy."""
    tensor = torch.tensor(values, dtype=dtype)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def draw(scores: torch.Tensor, numbers: Sequence[float]) -> list[int]:
    """One token per row; reading them is the only time that the host waits for the device.

    Args:
        scores: (rows, vocabulary) warped logits, -inf where a token was cut.
        numbers: one `uniform` number per row.
    """
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    # In float32 the rounding of a sum over a large vocabulary would show in the law.
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    number = upload(numbers, torch.float64, scores.device).unsqueeze(1)
    total = cumulative[:, -1:]
    # Strictly below the total, so that the token found is one with a weight.
    below = torch.minimum(number * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True).squeeze(1).tolist()
