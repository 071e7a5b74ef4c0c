"""Rows in balance: the rows of each optimiser step, spread over groups and micro-batches by cost.

A GPU with one long row makes the others wait. With ``s1.balance: true`` a step has exactly the rows
that the trainer's own sampler gives it, but which group gets which is chosen so that the fullest
has as little work as possible. What falls to one micro-batch of one group is laid end to end in one
packed row without padding, positions restart at each row, and attention does not cross over: the
kernels and masks of `transformers` find the rows by their positions where there is no mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from s1_plugin.console import say
from s1_plugin.training import balance

#: Attention that keeps packed rows apart by their positions alone: masks that `transformers` builds
#: from them (masking_utils.py), and kernels that take lengths (modeling_flash_attention_utils.py).
ATTENTION = (
    "eager",
    "sdpa",
    "flex_attention",
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_4",
    "kernels-community/flash-attn2",
    "kernels-community/flash-attn3",
)
#: Models of which tests/training/test_batches.py proves that packed rows do not see one another.
#: Layers with a state that runs along the row (Mamba, linear attention) would let them.
MODELS = ("llama", "qwen2", "qwen3")

#: axolotl's settings under which a step's rows are put together in another way.
_OTHERS = {
    "sample_packing": "it packs by length alone, and steps differ in their number of rows",
    "eval_sample_packing": "the rows of evaluation stay one by one",
    "batch_flattening": "rows are already laid end to end",
    "group_by_length": "it trains on the rows in another order than the paper",
    "curriculum_sampling": "it trains on the rows in another order than the paper",
    "streaming": "a step's rows must be known before they are spread",
    "pretraining_dataset": "a step's rows must be known before they are spread",
    "rl": "there the rows are pairs or prompts",
}
#: Steps of an epoch that are looked at for what is said of it.
_LOOK = 200


def check(cfg: Mapping[str, Any]) -> None:
    """Whether this axolotl config can train with ``s1.balance: true``.

    Raises:
        ValueError: naming the setting that contradicts it, and the remedy.
    """
    for name, why in _OTHERS.items():
        if cfg.get(name):
            raise ValueError(f"s1.balance: true cannot go with `{name}`: {why}; remove one of them")
    kind = cfg.get("attn_implementation")
    if kind and _base(kind) not in ATTENTION:
        raise ValueError(_unknown_attention(kind))
    if (cfg.get("context_parallel_size") or cfg.get("sequence_parallel_degree") or 1) > 1:
        ring = cfg.get("ring_attn_func")
        if getattr(ring, "value", ring) != "varlen_llama3":
            raise ValueError(
                "s1.balance: true with context_parallel_size needs `ring_attn_func: "
                "varlen_llama3`: axolotl's batch_ring attends across packed rows"
            )


def _base(kind: str) -> str:
    """An attention's name without the revision or the kernel of a hub repository."""
    return kind.split(":", 1)[0].split("@", 1)[0].strip()


def _unknown_attention(kind: object) -> str:
    return (
        f"s1.balance: true cannot go with `attn_implementation: {kind}`: it is not known to keep "
        f"packed rows apart; set one of {', '.join(ATTENTION)}"
    )


class Packed:
    """A data set whose items are rows laid end to end; indexed by the rows' numbers.

    Args:
        rows: a data set of `datasets` with ``input_ids`` and ``labels``, lists of integers.
        multiple: the length of an item is one of this number (ranks that share it cut it in equal
            parts); what is added goes on after the last row, is not learned, and nothing that is
            learned sees it.
        pad: the token that is added.
    """

    def __init__(self, rows: Any, multiple: int = 1, pad: int = 0) -> None:
        self.rows = rows.select_columns(["input_ids", "labels"])
        self.multiple = multiple
        self.pad = pad

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: tuple[int, ...]) -> dict[str, Any]:
        """``input_ids``, ``labels`` and ``position_ids``, each (1, tokens), int64."""
        import torch

        found = self.rows[list(numbers)]
        ids = [token for row in found["input_ids"] for token in row]
        labels = [label for row in found["labels"] for label in row]
        positions = [at for row in found["input_ids"] for at in range(len(row))]
        missing = -len(ids) % self.multiple
        ids += [self.pad] * missing
        labels += [-100] * missing
        positions += range(positions[-1] + 1, positions[-1] + 1 + missing)
        item = {"input_ids": ids, "labels": labels, "position_ids": positions}
        return {name: torch.tensor([values]) for name, values in item.items()}


class Bins:
    """The batch sampler of a `Packed` data set: each batch is one item, the rows of one bin.

    Of one optimiser step come first the bins of its first micro-batch, one per group, then those of
    the second. Fullest bins are in one micro-batch, as its groups wait for one another.

    Args:
        sampler: the numbers of the rows, in the order of training; iterated once per epoch.
        lengths: tokens of each row.
        micro_batch, accumulation: rows per group and micro-batch, and micro-batches per step, as
            the config has them: together with ``groups`` they say which rows a step has.
        groups: ranks that get different rows.
        drop_last: whether the trainer drops rows that do not fill a micro-batch.
        coefficients: of a row's cost in tokens and tokens squared.
    """

    #: What accelerate shares out and the trainer asks for: a batch is one packed row.
    batch_size = 1
    drop_last = False

    def __init__(
        self,
        sampler: Any,
        lengths: Sequence[int],
        micro_batch: int,
        accumulation: int,
        groups: int = 1,
        drop_last: bool = False,
        coefficients: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        self.sampler = sampler
        self.lengths = lengths
        self.micro_batch = micro_batch
        self.accumulation = accumulation
        self.groups = groups
        self.drop = drop_last
        self.coefficients = coefficients

    def __len__(self) -> int:
        rows = len(self.sampler)
        if self.drop:
            return rows // self.micro_batch // self.groups * self.groups
        return -(-rows // (self.micro_batch * self.groups)) * self.groups

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        for bins in self.steps():
            for rows in bins:
                yield [tuple(rows)]

    def steps(self) -> Iterator[list[list[int]]]:
        """The bins of each optimiser step of an epoch, as lists of rows."""
        rounds = iter(self._rounds(list(self.sampler)))
        while step := list(islice(rounds, self.accumulation)):
            rows = [row for part in step for row in part]
            costs = [balance.cost(self.lengths[row], *self.coefficients) for row in rows]
            bins = balance.assign(costs, self.groups * len(step))
            yield [[rows[i] for i in part] for part in bins]

    def load(self, rows: Iterable[int]) -> float:
        """What a bin costs."""
        return sum(balance.cost(self.lengths[row], *self.coefficients) for row in rows)

    def _rounds(self, order: list[int]) -> Iterable[list[int]]:
        """The rows of each micro-batch of all groups, as the trainer and accelerate cut them; where
        the last is short of groups, accelerate goes on with the epoch's first rows."""
        from accelerate.data_loader import BatchSamplerShard
        from torch.utils.data import BatchSampler

        plain = BatchSampler(order, self.micro_batch, self.drop)
        if self.groups == 1:
            return plain
        shards = [BatchSamplerShard(plain, self.groups, group) for group in range(self.groups)]
        parts = zip(*shards, strict=True)
        return ([row for part in together for row in part] for together in parts)


def row_lengths(rows: Any) -> list[int]:
    """Tokens of each row of a data set of `datasets`, without reading the tokens."""
    import pyarrow.compute

    column = rows.select_columns(["input_ids"]).with_format("arrow")
    tables = column.iter(batch_size=1000)
    return [
        n for t in tables for n in pyarrow.compute.list_value_length(t["input_ids"]).to_pylist()
    ]


def install(trainer: Any) -> None:
    """Gives ``trainer`` (of `transformers`, made by axolotl) balanced batches to train on. What it
    evaluates on stays as it is.

    Raises:
        ValueError: for a model, an attention or a loader with which rows would not be kept apart.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    config = model.config
    if config.model_type not in MODELS:
        raise ValueError(
            f"s1.balance: true is not proven for models of type {config.model_type}, only for "
            f"{', '.join(MODELS)}: rows packed together might see one another; remove the key"
        )
    if _base(config._attn_implementation) not in ATTENTION:
        raise ValueError(_unknown_attention(config._attn_implementation))
    if not hasattr(trainer.train_dataset, "__len__"):
        raise ValueError(
            "s1.balance: true needs a data set that is not streamed; remove `streaming`"
        )
    for name in ("split_batches", "dispatch_batches"):
        if getattr(trainer.accelerator, name, None):
            raise ValueError(f"s1.balance: true cannot go with accelerator_config.{name}: true")
    # With a key-value cache `transformers` would not look for rows in the positions.
    config.use_cache = False
    trainer.get_train_dataloader = lambda: _loader(trainer, config)


def _loader(trainer: Any, config: Any) -> Any:
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import DataLoader

    from s1_plugin.plan import flops, shapes
    from s1_plugin.training import loss

    args, rows = trainer.args, trainer.train_dataset
    bins = Bins(
        trainer._get_train_sampler(rows),
        row_lengths(rows),
        micro_batch=trainer._train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        drop_last=bool(args.dataloader_drop_last),
        coefficients=flops.row_cost(shapes.Shape.from_config(config.to_dict())),
    )
    plain = DataLoader(
        Packed(rows, multiple=loss.shards(trainer), pad=_pad(trainer)),
        batch_sampler=bins,
        collate_fn=_only,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
    loader = trainer.accelerator.prepare(plain)
    # Over how many groups accelerate shares the batches out (ranks, less those of one group).
    shard = loader.batch_sampler
    bins.groups = shard.num_processes if isinstance(shard, BatchSamplerShard) else 1
    _announce(bins)
    return loader


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    (item,) = batch
    return item


def _pad(trainer: Any) -> int:
    found = getattr(trainer.processing_class, "pad_token_id", None)
    return 0 if found is None else found


def _announce(bins: Bins) -> None:
    """Says what the first steps of the first epoch look like."""
    epoch = getattr(bins.sampler, "epoch", None)
    if epoch is None:
        return  # a sampler that draws from the global generator: looking would change the order
    steps = list(islice(bins.steps(), _LOOK))
    bins.sampler.set_epoch(epoch)
    longest = max(sum(bins.lengths[row] for row in rows) for step in steps for rows in step)
    work = sum(bins.load(rows) for step in steps for rows in step)
    # Fullest bins come first: the first of each micro-batch is what its groups wait for.
    waits = sum(bins.load(rows) for step in steps for rows in step[:: bins.groups]) * bins.groups
    rows = bins.micro_batch * bins.accumulation * bins.groups
    say(
        f"rows in balance: {rows} rows a step, groups x micro-batches: {bins.groups} x "
        f"{bins.accumulation}; in the first {len(steps)} steps the longest packed row has "
        f"{longest:,} tokens, and groups wait {1 - work / waits:.1%} of the time for the fullest"
    )
