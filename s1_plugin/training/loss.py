"""The paper's objective: the loss averaged over the tokens of each sequence, then over sequences.

axolotl averages over the tokens of a micro-batch, then over micro-batches and ranks. With one row
per micro-batch that is the same. With several rows in it, or rows packed into one, long rows would
weigh more than short ones, and that is another objective: there ``s1.loss: sequence`` is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: Positions whose logits are in float32 at a time: 0.6 GB at Qwen2.5's vocabulary.
_CHUNK = 1024
_IGNORED = -100


def sequences(labels: torch.Tensor, position_ids: torch.Tensor | None) -> torch.Tensor:
    """The number of the sequence to which each predicted token belongs.

    Args:
        labels: (rows, positions), -100 where nothing is learned.
        position_ids: the same shape, 0 where a packed sequence begins; None if none is packed.

    Returns:
        (rows, positions - 1), for the labels from the second position on; -1 where nothing is
        learned, the first token of a sequence among them (what stands before it is another one).
    """
    rows, width = labels.shape
    number = torch.zeros_like(labels)
    learned = labels != _IGNORED
    if position_ids is not None:
        begins = position_ids.expand(rows, width) == 0
        number = begins.long().cumsum(dim=1)
        learned = learned & ~begins
    number = number + torch.arange(rows, device=labels.device).unsqueeze(1) * (width + 1)
    return torch.where(learned, number, -1)[:, 1:]


def count(labels: torch.Tensor, position_ids: torch.Tensor | None) -> int:
    """How many sequences learn something."""
    found = sequences(labels, position_ids).unique()
    return int((found >= 0).sum())


def token_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each position, in float32, chunk by chunk and again in the backward pass:
    float32 logits of 32,768 positions would take 20 GB, and their gradient as much.

    Args:
        logits: (positions, vocabulary).
        targets: (positions,), -100 for a loss of 0.
    """

    def piece(part: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(part.float(), target, reduction="none", ignore_index=_IGNORED)

    parts = zip(logits.split(_CHUNK), targets.split(_CHUNK), strict=True)
    return torch.cat([checkpoint(piece, *part, use_reentrant=False) for part in parts])


def sequence_mean(
    logits: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor | None, total: Any
) -> torch.Tensor:
    """The sum over sequences of their mean loss, divided by ``total``.

    Args:
        logits: (rows, positions, vocabulary).
        total: sequences in the whole step of this rank, over all its micro-batches.
    """
    number = sequences(labels, position_ids).flatten()
    learned = number >= 0
    _, which, lengths = number[learned].unique(return_inverse=True, return_counts=True)
    # Chosen before anything is computed: prompts are half of some rows.
    chosen = logits[:, :-1].flatten(0, 1)[learned]
    losses = token_losses(chosen, labels[:, 1:].flatten()[learned])
    return (losses / lengths[which]).sum() / total


def install(trainer: Any) -> None:
    """Makes ``trainer`` (of `transformers`, made by axolotl) use the paper's objective."""
    position_ids: list[torch.Tensor | None] = [None]
    compute = trainer.compute_loss

    def compute_loss(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if "shift_labels" in inputs:
            raise ValueError("s1.loss: sequence does not know context parallelism; remove the key")
        position_ids[0] = inputs.get("position_ids")
        return compute(model, inputs, *args, **kwargs)

    def loss_of(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> Any:
        total = num_items_in_batch
        if total is None:  # evaluation
            total = max(1, count(labels, position_ids[0]))
        return sequence_mean(outputs["logits"], labels, position_ids[0], total)

    def items(batches: Sequence[dict[str, Any]], device: Any) -> torch.Tensor:
        total = sum(count(b["labels"], b.get("position_ids")) for b in batches)
        return torch.tensor(max(1, total), device=device)

    trainer.compute_loss = compute_loss
    trainer.compute_loss_func = loss_of
    trainer._get_num_items_in_batch = items
