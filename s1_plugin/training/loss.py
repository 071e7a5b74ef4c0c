"""The paper's objective: the loss averaged over the tokens of each sequence, then over sequences.

axolotl averages over the tokens of a micro-batch, then over micro-batches and ranks. With one row
per micro-batch that is the same. With several rows in it, or rows packed into one, long rows would
weigh more than short ones, and that is another objective: there ``s1.loss: sequence`` is needed.

Every learned token gets its weight before the model is called, 1 / (learned tokens of its sequence
x sequences of the step), so whatever then happens to the row (packed with others, cut into shards
by context parallelism), the sum of weights times losses over all ranks is the paper's objective.
The loss is computed inside the model's forward from the last hidden states, some positions at a
time and once more in the backward pass: logits of 32,768 positions and 152,064 entries would take
10 GB in bfloat16 and 20 in float32, and their gradients as much.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from s1_plugin.training.meter import Meter, answer_mask

#: Positions whose logits are there at a time: 1.2 GB in float32 at Qwen2.5's vocabulary.
CHUNK = 2048
_IGNORED = -100
#: Settings of a model's configuration under which its logits are not the head's output, or its loss
#: is not the cross entropy alone.
_OTHER_HEADS = ("final_logit_softcapping", "logits_scaling", "logit_scale", "output_router_logits")


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


def token_weights(
    labels: torch.Tensor, position_ids: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each position predicts, and the weight of it: 1 / learned tokens of its sequence.

    Args:
        labels, position_ids: as in `sequences`.

    Returns:
        targets: (rows, positions), the next token; 0 where the weight is.
        weights: the same shape, float32; the weights of a sequence add up to 1.
    """
    number = F.pad(sequences(labels, position_ids), (0, 1), value=-1)
    learned = number >= 0
    _, which, lengths = number[learned].unique(return_inverse=True, return_counts=True)
    weights = torch.zeros(labels.shape, device=labels.device)
    weights[learned] = 1.0 / lengths[which].float()
    return F.pad(labels[:, 1:], (0, 1)).masked_fill(~learned, 0), weights


def head_losses(
    head: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    targets: torch.Tensor,
    pieces: int,
) -> torch.Tensor:
    """Cross entropy of each position, in float32; the logits of one piece exist at a time.

    Args:
        head: from hidden states to logits, (n, hidden size) to (n, vocabulary).
        hidden: (positions, hidden size).
        targets: (positions,).
        pieces: how many, about equal; some may be empty. (The head's gradient is summed over them
            in the precision in which it is computed.)
    """

    def piece(part: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(head(part).float(), target, reduction="none")

    parts = zip(hidden.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
    return torch.cat([checkpoint(piece, *part, use_reentrant=False) for part in parts])


def install(trainer: Any, meter: Meter | None = None, delimiter: Sequence[int] = ()) -> None:
    """Makes ``trainer`` (of `transformers`, made by axolotl) use the paper's objective.

    Args:
        meter: told what is trained on, and the losses of thinking and answer.
        delimiter: the token ids with which an answer begins, see `meter.delimiter`.

    Raises:
        ValueError: for a model whose loss is more than the cross entropy of its head's output.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    for name in _OTHER_HEADS:
        if getattr(causal.config, name, None):
            raise ValueError(
                f"s1.loss: sequence cannot train a model with `{name}` in its config.json: its "
                "loss is more than the cross entropy of the head's output; remove the key, and set "
                "micro_batch_size: 1 without packing, which is the same objective"
            )
    exact = use_weights(causal, meter)
    compute = trainer.compute_loss

    def compute_loss(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        labels, positions = inputs["labels"], inputs.get("position_ids")
        targets, weights = token_weights(labels, positions)
        total = kwargs.get("num_items_in_batch")
        if model.training:
            # Gradients are averaged over the ranks, and so is the loss that is logged.
            weights *= trainer.accelerator.num_processes / total
        else:
            weights /= max(1, count(labels, positions))
        # As integers: FSDP casts a forward's floating-point inputs to bfloat16.
        inputs["targets"], inputs["weights"] = targets, weights.view(torch.int32)
        if meter is not None and model.training:
            inputs["answers"] = F.pad(answer_mask(labels, positions, delimiter)[:, 1:], (0, 1))
            if shard(trainer) == 0:
                meter.add_rows(*rows_of(inputs))
        return compute(model, inputs, *args, **kwargs)

    def loss_of(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> Any:
        loss = outputs["loss"].float()
        # FSDP casts a forward's outputs to bfloat16, too. The gradient does not care, the log does.
        loss = loss + (exact[-1] - loss.detach())
        if not trainer.model.training and shards(trainer) > 1:
            loss = _sum_of_shards(loss)
        return loss

    def items(batches: Sequence[dict[str, Any]], device: Any) -> torch.Tensor:
        """Sequences in the step, of all ranks; those that hold shards of the same rows have all
        counted them. (In evaluation too: before the first step a model says it is not training.)"""
        own = sum(count(b["labels"], b.get("position_ids")) for b in batches)
        total = torch.tensor(float(own), device=device)
        total = trainer.accelerator.reduce(total, "sum") / shards(trainer)
        return total.clamp(min=1)

    trainer.compute_loss = compute_loss
    trainer.compute_loss_func = loss_of
    trainer._get_num_items_in_batch = items


def rows_of(inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a micro-batch's sequences begin, and what of it is not padding."""
    ids, positions = inputs["input_ids"], inputs.get("position_ids")
    begins = torch.zeros_like(ids, dtype=torch.bool)
    if positions is not None:
        begins = positions.expand_as(ids) == 0
    real = inputs.get("attention_mask")
    return begins, torch.ones_like(begins) if real is None else real.bool()


def use_weights(causal: Any, meter: Meter | None) -> list[torch.Tensor]:
    """Gives the model a forward that takes ``targets`` and ``weights`` (of `token_weights`; the
    latter's bits as int32) and returns a loss, and no logits; without them it is the one it had.

    Returns:
        a list whose one entry will be the loss of the last call, in float32 and without gradient.
    """
    exact: list[torch.Tensor] = []
    forward = causal.forward
    head = causal.get_output_embeddings()

    @functools.wraps(forward)
    def weighted(*args: Any, **kwargs: Any) -> Any:
        if "targets" not in kwargs:
            return forward(*args, **kwargs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        targets, weights = kwargs.pop("targets"), kwargs.pop("weights").view(torch.float32)
        answer = kwargs.pop("answers", None)
        outputs = causal.base_model(*args, **kwargs)
        chosen = weights > 0
        if not chosen.any():
            # Every rank runs the head, or the ranks' reductions of its gradient would not meet.
            chosen[0, 0] = True
        hidden = outputs.last_hidden_state[chosen]
        losses = head_losses(head, hidden, targets[chosen], _pieces(head, hidden))
        if meter is not None and answer is not None:
            learned = weights[chosen] > 0
            meter.add(losses[learned], answer[chosen][learned])
        loss = (losses * weights[chosen]).sum()
        exact[:] = [loss.detach()]
        return CausalLMOutputWithPast(loss=loss)

    causal.forward = weighted
    return exact


def _pieces(head: Any, hidden: torch.Tensor) -> int:
    """Into how many pieces positions are cut. DeepSpeed's ZeRO-3 gathers the head whenever it is
    called, all ranks together, so there all take as many as the one with the most."""
    count = -(-hidden.shape[0] // CHUNK)
    if not any(hasattr(p, "ds_id") for p in head.parameters()):
        return count
    from torch import distributed

    most = torch.tensor(count, device=hidden.device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return int(most)


def shards(trainer: Any) -> int:
    """Over how many ranks a row is spread (axolotl's `context_parallel_size`)."""
    settings = getattr(trainer.accelerator, "parallelism_config", None)
    return int(getattr(settings, "cp_size", 1) or 1)


def shard(trainer: Any) -> int:
    """Which part of its rows this rank holds, from 0."""
    if shards(trainer) == 1:
        return 0
    from axolotl.monkeypatch.ring_attn import get_ring_attn_group
    from torch import distributed

    return int(distributed.get_rank(get_ring_attn_group()))


def _sum_of_shards(loss: torch.Tensor) -> torch.Tensor:
    from axolotl.monkeypatch.ring_attn import get_ring_attn_group
    from torch import distributed

    loss = loss.clone()
    distributed.all_reduce(loss, group=get_ring_attn_group())
    return loss
