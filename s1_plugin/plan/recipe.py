"""What of an axolotl config decides time and memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s1_plugin.config import parse
from s1_plugin.plan.shapes import Shape

#: Sequences of one step in the paper; where `--gpus` is not given, as many GPUs as make them.
PAPER_BATCH = 16

#: Optimiser -> bytes per weight that it keeps, for weights of 4 and of 2 bytes. Adam has two
#: numbers of the weight's type; 8-bit ones one byte each and a scale per 256 of them
#: (https://arxiv.org/abs/2110.02861); optimi adds Kahan's correction to low-precision weights
#: (https://optimi.benjaminwarner.dev/kahan_summation/).
_OPTIMISERS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adamw_hf"), (8.0, 4.0)),
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "adamw_torch_8bit"), (2.03, 2.03)),
    "optimi_adamw": (8.0, 6.0),
}
#: Their states, of these bytes, are moved to the CPU's memory when the GPU's is short.
_PAGED = {"paged_adamw_8bit": 2.03, "paged_adamw_32bit": 8.0}
#: transformers', under `save_strategy: steps`.
_SAVE_STEPS = 500

#: LoRA target -> its matrix, as (width in, width out) of a shape.
TARGETS: dict[str, Callable[[Shape], tuple[int, int]]] = {
    "q_proj": lambda s: (s.hidden, s.q_width),
    "k_proj": lambda s: (s.hidden, s.kv_width),
    "v_proj": lambda s: (s.hidden, s.kv_width),
    "o_proj": lambda s: (s.q_width, s.hidden),
    "gate_proj": lambda s: (s.hidden, s.ffn),
    "up_proj": lambda s: (s.hidden, s.ffn),
    "down_proj": lambda s: (s.ffn, s.hidden),
}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Widths are in bytes.

    Attributes:
        layout: how rows come into micro-batches. rows: padded to the longest of a micro-batch;
            balanced: those of a step spread by cost and packed; packed: filled up to
            ``sequence_len`` by axolotl, so that steps differ in their number of rows.
        shards: GPUs over which (weights, gradients, optimiser states) are spread.
        weight, optimiser: bytes of a trained weight, and of its optimiser states.
        master: bytes of a second copy of the weight, in float32 (DeepSpeed).
        frozen: bytes of a weight of the base model under an adapter; 0 without one.
        rank, targets: of the adapter.
        recompute: none; whole layers; or as far as the backward pass needs them.
        keep: bytes of each GPU for layers that are not recomputed (``s1.keep_activations_gb``).
        keep_attention: attention's output is kept in spite of ``recompute``.
        offload: what waits for the backward pass in the CPU's memory.
        states_on_cpu: weights and optimiser are there too.
        reshard: gathered weights are dropped after the forward pass, and gathered again.
        flat: gathered weights are used where they arrive (FSDP1, DeepSpeed), not copied (FSDP2).
        sync_each: gradients are reduced after each micro-batch, not kept whole until the step.
        logits: all: they exist for all positions at once.
        fused: norms, rotary angles and the gated feed-forward of Liger.
        saves: checkpoints written in all; None: one every ``save_steps``, and one at the end.
        saved: bytes of a trained weight in a checkpoint; the result has ``weight``.
    """

    gpus: int
    context: int = 1
    micro_batch: int = 1
    accumulation: int = 1
    epochs: float = 5
    max_steps: int | None = None
    sequence_len: int = 32_768
    layout: Literal["rows", "balanced", "packed"] = "rows"
    shards: tuple[int, int, int] = (1, 1, 1)
    weight: int = 4
    optimiser: float = 8.0
    master: int = 0
    frozen: float = 0.0
    rank: int = 0
    targets: tuple[str, ...] = ()
    recompute: Literal["none", "whole", "needed"] = "none"
    keep: float = 0.0
    keep_attention: bool = False
    offload: Literal["nothing", "checkpoints", "activations"] = "nothing"
    states_on_cpu: bool = False
    reshard: bool = True
    flat: bool = False
    sync_each: bool = True
    logits: Literal["all", "chunks"] = "all"
    fused: bool = False
    saves: int | None = 0
    save_steps: int = 0
    saved: float = 0.0

    @property
    def groups(self) -> int:
        """GPUs, or groups of them, that get different rows."""
        return self.gpus // self.context

    @property
    def rows_per_step(self) -> int:
        return self.micro_batch * self.accumulation * self.groups

    def checkpoints(self, steps: int | None) -> int | None:
        """How many a run of ``steps`` writes; None where that takes steps that are not known."""
        if self.saves is not None:
            return self.saves
        return None if steps is None else math.ceil(steps / self.save_steps)

    def trained(self, shape: Shape) -> int:
        """Weights that are trained."""
        if not self.rank:
            return shape.params()
        return shape.layers * self.rank * sum(sum(TARGETS[name](shape)) for name in self.targets)


def of_config(cfg: Mapping[str, Any], gpus: int | None = None) -> Recipe:
    """The recipe of a raw axolotl config.

    Args:
        gpus: how many; None: as many as make the paper's 16 sequences a step, or 1.

    Raises:
        ValueError: for a setting that cannot be planned, named, with what to do.
    """
    settings = parse(cfg.get("s1"))
    if int(cfg.get("tensor_parallel_size") or 1) > 1:
        raise ValueError("`tensor_parallel_size` is not planned for; use context_parallel_size")
    context = int(cfg.get("context_parallel_size") or cfg.get("sequence_parallel_degree") or 1)
    micro = int(cfg.get("micro_batch_size") or 1)
    accumulation = int(cfg.get("gradient_accumulation_steps") or 1)
    if gpus is None:
        gpus = max(1, round(PAPER_BATCH * context / (micro * accumulation)))
        if gpus * micro * accumulation != PAPER_BATCH * context:
            gpus = context
    if gpus % context:
        raise ValueError(f"context_parallel_size {context} does not divide {gpus} GPUs (--gpus)")
    adapter = cfg.get("adapter")
    low = any(cfg.get(name) for name in ("bf16", "bfloat16", "fp16", "float16"))
    weight = 4 if adapter or not low or settings.weights == "float32" else 2
    deep = _deepspeed(cfg.get("deepspeed"))
    mixed = deep is not None and low
    master = 4 if mixed and not adapter else 0
    optimiser = _optimiser(cfg, weight, mixed)
    weight = 2 if mixed and not adapter else weight
    saves, save_steps = _saves(cfg)
    return Recipe(
        gpus=gpus,
        context=context,
        micro_batch=micro,
        accumulation=accumulation,
        epochs=float(cfg.get("num_epochs") or 1),
        max_steps=int(cfg["max_steps"]) if int(cfg.get("max_steps") or -1) > 0 else None,
        sequence_len=int(cfg.get("sequence_len") or 512),
        layout=(
            "balanced" if settings.balance else "packed" if cfg.get("sample_packing") else "rows"
        ),
        shards=_shards(cfg, gpus, deep),
        weight=weight,
        optimiser=optimiser,
        master=master,
        frozen=_frozen(cfg),
        rank=int(cfg.get("lora_r") or 0) if adapter else 0,
        targets=_targets(cfg) if adapter else (),
        recompute=_recompute(cfg),
        keep=(settings.keep_activations_gb or 0.0) * 1e9,
        keep_attention=bool(cfg.get("selective_checkpointing")),
        offload=_offload(cfg),
        states_on_cpu=bool((cfg.get("fsdp_config") or {}).get("offload_params")),
        reshard=(cfg.get("fsdp_config") or {}).get("reshard_after_forward", True) is not False,
        flat=deep is not None or str(cfg.get("fsdp_version") or 1) != "2",
        sync_each=deep is not None or _syncs_each(cfg),
        logits=(
            "chunks"
            if settings.loss == "sequence"
            or cfg.get("cut_cross_entropy")
            or cfg.get("liger_fused_linear_cross_entropy")
            else "all"
        ),
        fused=bool(cfg.get("liger_rms_norm")) and bool(cfg.get("liger_glu_activation")),
        saves=saves,
        save_steps=save_steps,
        saved=_saved(cfg, weight, optimiser, master),
    )


def _deepspeed(setting: Any) -> dict[str, Any] | None:
    """The settings of DeepSpeed, of a block or a file."""
    if not setting:
        return None
    if isinstance(setting, Mapping):
        return dict(setting)
    path = Path(str(setting))
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    for stage in (1, 2, 3):
        if f"zero{stage}" in path.name:
            return {"zero_optimization": {"stage": stage}}
    raise ValueError(f"`deepspeed: {setting}` is no file here, and its name has no zero1 to zero3")


def _shards(cfg: Mapping[str, Any], gpus: int, deep: dict[str, Any] | None) -> tuple[int, int, int]:
    if deep is not None:
        stage = int((deep.get("zero_optimization") or {}).get("stage") or 0)
        return (
            gpus if stage >= 3 else 1,
            gpus if stage >= 2 else 1,
            gpus if stage >= 1 else 1,
        )
    if cfg.get("fsdp_config") or cfg.get("fsdp"):
        # Shards of a row share the weights too: accelerate shards over both kinds of ranks.
        n = gpus // int(cfg.get("dp_replicate_size") or 1)
        return (n, n, n)
    return (1, 1, 1)


def _optimiser(cfg: Mapping[str, Any], weight: int, deepspeed: bool) -> float:
    name = str(cfg.get("optimizer") or "adamw_torch_fused")
    if name in _PAGED:
        return 0.0
    if name not in _OPTIMISERS:
        raise ValueError(
            f"`optimizer: {name}` is not known here; known: {', '.join([*_OPTIMISERS, *_PAGED])}"
        )
    return _OPTIMISERS[name][weight == 2 and not deepspeed]


def _frozen(cfg: Mapping[str, Any]) -> float:
    if not cfg.get("adapter"):
        return 0.0
    if cfg.get("load_in_4bit"):
        # NF4 with double quantisation: 4.127 bits, https://arxiv.org/abs/2305.14314, section 3.
        return 4.127 / 8
    return 1.0 if cfg.get("load_in_8bit") else 2.0


def _targets(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    if cfg.get("lora_target_linear"):
        return tuple(TARGETS)
    named = cfg.get("lora_target_modules") or ()
    unknown = [str(name) for name in named if name not in TARGETS]
    if unknown or not named:
        raise ValueError(
            f"`lora_target_modules` {unknown or 'is missing'}: set `lora_target_linear: true`, or "
            f"name some of {', '.join(TARGETS)}"
        )
    return tuple(named)


def _recompute(cfg: Mapping[str, Any]) -> Literal["none", "whole", "needed"]:
    fsdp = cfg.get("fsdp_config") or {}
    if fsdp.get("activation_checkpointing"):
        return "needed"  # accelerate's wrapper is the non-reentrant one
    if not cfg.get("gradient_checkpointing") or _offload(cfg) == "activations":
        return "none"
    if cfg.get("selective_checkpointing") or cfg.get("activation_offloading") == "hidden_states":
        reentrant = False
    else:
        reentrant = True  # axolotl's default, where nothing is said (utils/config)
    said = (cfg.get("gradient_checkpointing_kwargs") or {}).get("use_reentrant")
    return "whole" if (reentrant if said is None else said) else "needed"


def _offload(cfg: Mapping[str, Any]) -> Literal["nothing", "checkpoints", "activations"]:
    setting = cfg.get("activation_offloading")
    if not setting and cfg.get("gradient_checkpointing") in ("offload", "offload_disk"):
        setting = True
    if not setting:
        return "nothing"
    # axolotl recomputes a fully trained model all the same; under an adapter all goes out.
    return "activations" if cfg.get("adapter") and setting != "hidden_states" else "checkpoints"


def _syncs_each(cfg: Mapping[str, Any]) -> bool:
    """As transformers' trainer reads it (`Trainer._inner_training_loop`, accelerate's plugin)."""
    accelerator = cfg.get("accelerator_config") or {}
    return bool((accelerator.get("gradient_accumulation_kwargs") or {}).get("sync_each_batch"))


def _saves(cfg: Mapping[str, Any]) -> tuple[int | None, int]:
    """Checkpoints in all, or None and the steps between them. transformers writes one at the last
    step too, and axolotl one per epoch where nothing is said."""
    epochs, every = float(cfg.get("num_epochs") or 1), float(cfg.get("save_steps") or 0)
    if cfg.get("saves_per_epoch"):
        return math.ceil(epochs * float(cfg["saves_per_epoch"])), 0
    if 0 < every < 1:  # a share of all steps
        return math.ceil(1 / every), 0
    if every or cfg.get("save_strategy") == "steps":
        return None, int(every) or _SAVE_STEPS
    if cfg.get("save_strategy") in ("no", False):  # YAML reads a bare no as false
        return 0, 0
    return math.ceil(epochs), 0


def _saved(cfg: Mapping[str, Any], weight: int, optimiser: float, master: int) -> float:
    if cfg.get("save_only_model"):
        return weight
    # Paged states lie in the CPU's memory, but are saved all the same.
    states = _PAGED.get(str(cfg.get("optimizer")), optimiser) + master
    # A checkpoint that can be resumed from holds the weights once for use and once to go on from:
    # DeepSpeed's do, and FSDP's of whole tensors (transformers, trainer.py: `save_model`, then
    # `save_fsdp_model` of accelerate or `save_checkpoint`).
    whole = (cfg.get("fsdp_config") or {}).get("state_dict_type") == "FULL_STATE_DICT"
    return weight * (2 if cfg.get("deepspeed") or whole else 1) + states
