"""Answers that fork off a thinking go on from its key-value cache: nothing is prefilled again.

A row of a batch is columns of the cache. A fork takes the columns up to where it leaves the row it
comes from; forks of different rows and lengths make one new batch, moved to the right so that they
end together. Positions are counted by the attention mask, so moving a column changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from s1_plugin.forcing.transformers import left_padded

#: Tokens of an answer that there should be room for; longer ones may run out of memory.
_ANSWER = 256
#: Rows of a forked batch for one of its source: logits take memory, too.
_MOST = 4


class Forks:
    """The cache of a finished batch, to fork from.

    Args:
        cache: as ``generate`` returns it; (batch, heads, columns, size) in every layer.
        width: columns of the batch's padded prompts.
        rows: the token ids of each row, prompt included.
        prompts: how many of them are the prompt.
    """

    def __init__(
        self, cache: Any, width: int, rows: Sequence[list[int]], prompts: Sequence[int]
    ) -> None:
        self.cache, self.rows = cache, rows
        self.pads = [width - length for length in prompts]

    @property
    def possible(self) -> bool:
        """Every layer keeps all columns. Not so with sliding windows, and state-space layers have
        no columns; there the prefix is prefilled again."""
        layers = getattr(self.cache, "layers", None) or []
        return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def chunks(self, forks: Sequence[tuple[int, list[int]]]) -> Iterator[list[int]]:
        """Indices of ``forks`` in batches that take about as much cache as the batch they come
        from, with room for answers (`_ANSWER` tokens, or an eighth of the columns if those are
        fewer); like beside like in length."""
        columns = self.cache.layers[0].keys.shape[2]
        room = len(self.rows) * columns
        order = sorted(range(len(forks)), key=lambda i: -len(forks[i][1]))
        while order:
            fit = room // (len(forks[order[0]][1]) + min(_ANSWER, columns // 8))
            count = min(max(1, fit), _MOST * len(self.rows))
            yield order[:count]
            order = order[count:]

    def take(
        self, forks: Sequence[tuple[int, list[int]]], pad: int
    ) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        """Input ids and attention mask, (forks, columns) each, and the cache of all columns but the
        last few: what ``generate`` goes on from.

        Args:
            forks: for each, the row it comes from and its token ids, prompt included.
        """
        shared = [_common(self.rows[i], ids) for i, ids in forks]
        longest = max(shared)
        old, old_mask = left_padded(
            [ids[:n] for (_, ids), n in zip(forks, shared, strict=True)], pad
        )
        new, new_mask = left_padded(
            [ids[n:] for (_, ids), n in zip(forks, shared, strict=True)], pad
        )
        rows = torch.tensor([i for i, _ in forks]).unsqueeze(1)
        ends = torch.tensor([self.pads[i] + n for (i, _), n in zip(forks, shared, strict=True)])
        # What lies left of a row's first column is masked.
        columns = (ends.unsqueeze(1) - longest + torch.arange(longest)).clamp_min(0)
        cache = DynamicCache()
        for number, layer in enumerate(self.cache.layers):
            at, which = rows.to(layer.keys.device), columns.to(layer.keys.device)
            keys, values = (
                kept[at, :, which].transpose(1, 2).contiguous()
                for kept in (layer.keys, layer.values)
            )
            cache.update(keys, values, number)
        return torch.cat([old, new], 1), torch.cat([old_mask, new_mask], 1), cache


def _common(row: Sequence[int], ids: Sequence[int]) -> int:
    """Tokens that both begin with, and that are in the row's cache; one of ``ids`` is left, for
    something must be put into the model."""
    most = min(len(row), len(ids)) - 1
    return next((n for n in range(most) if row[n] != ids[n]), most)
