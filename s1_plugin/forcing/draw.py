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
from torch.nn.functional import pad

#: Tokens whose weights are first summed together.
_BLOCK = 512


def stream_of(prompt_ids: Sequence[int], extra: str = "") -> str:
    """Name of a prompt's random stream: the same prompt draws the same, wherever it stands."""
    text = ",".join(map(str, prompt_ids)) + "/" + extra
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


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

    In float32 the rounding of a sum over a large vocabulary would show in the law, and a running
    sum of all of it in float64 takes ten times as long as the rest. So the block is found by the
    sums of blocks, and the token by the running sum in its block.

    Args:
        scores: (rows, vocabulary) warped logits, -inf where a token was cut.
        numbers: one `uniform` number per row.
    """
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    blocks = pad(weights, (0, -weights.shape[1] % _BLOCK)).unflatten(1, (-1, _BLOCK))
    sums = blocks.sum(dim=-1, dtype=torch.float64)
    cumulative = sums.cumsum(dim=-1)
    number = upload(numbers, torch.float64, scores.device).unsqueeze(1)
    block, number = _find(cumulative, number * cumulative[:, -1:])
    inner = blocks[torch.arange(len(numbers), device=scores.device), block.squeeze(1)]
    number = number - (cumulative - sums).gather(1, block)
    token, _ = _find(inner.cumsum(dim=-1, dtype=torch.float64), number)
    return (block * _BLOCK + token).squeeze(1).tolist()


def _find(cumulative: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first place whose running sum exceeds ``number``, which is kept, against rounding,
    from 0 to just below the total: so the place is one with a weight. Both are (rows, 1)."""
    total = cumulative[:, -1:]
    zero = torch.zeros_like(total)
    number = number.clamp(min=0.0).minimum(torch.nextafter(total, zero))
    return torch.searchsorted(cumulative, number, right=True), number
