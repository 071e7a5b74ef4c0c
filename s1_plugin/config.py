"""The `s1:` block of an axolotl config. Every field is described; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from s1_plugin.formats import FORMATS, get_format


class NanoConfig(BaseModel):
    """The laptop-sized world: made on the spot, nothing is downloaded."""

    model_config = ConfigDict(extra="forbid")

    folder: str = Field(description="Where the nano base model and training traces are written.")
    seed: int = Field(default=0, ge=0, description="Seed of the training questions and traces.")
    rows: int = Field(default=20_000, ge=100, description="Number of training traces.")


class EvaluateConfig(BaseModel):
    """An evaluation of the trained model by lm_eval, after training, on the first rank alone."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[str] = Field(min_length=1, description="Tasks of lm_eval, such as s1_aime.")
    gen_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Budgets and sampling, as in --gen_kwargs: {max_tokens_thinking: [500, auto]}.",
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict,
        description="More of --model_args for `--model hf`, such as {parallelize: true}.",
    )
    batch_size: int = Field(default=8, ge=1, description="Questions that are asked at a time.")


class S1Config(BaseModel):
    """Settings of s1-plugin, nested under `s1:`."""

    model_config = ConfigDict(extra="forbid")

    format: str = Field(
        default="s1",
        description=f"Trace format that the model is taught; one of {', '.join(sorted(FORMATS))}.",
    )
    bad_rows: Literal["stop", "skip"] = Field(
        default="stop",
        description="What to do with rows that have no question, trace or answer: "
        "stop with a list, or skip them and say how many.",
    )
    weights: Literal["float32"] | None = Field(
        default=None,
        description="float32: keep the weights, and so the optimiser's states, in float32 under "
        "`bf16: true` too, as the paper's authors did. Not set: as axolotl loads them.",
    )
    loss: Literal["sequence"] | None = Field(
        default=None,
        description="sequence: average the loss per sequence, then over sequences, as the paper "
        "does, whatever the micro-batch and the packing. Not set: as axolotl does, which is the "
        "same with micro_batch_size 1 and without sample_packing.",
    )
    balance: bool = Field(
        default=False,
        description="Spread the rows of each step over GPUs and micro-batches by their cost, and "
        "pack what falls together into one row without padding. A step has the same rows as "
        "without it. Needs `loss: sequence`.",
    )
    keep_activations_gb: float | None = Field(
        default=None,
        gt=0,
        description="With gradient_checkpointing: true, let as many layers of each micro-batch as "
        "fit into this many GB (1e9 bytes) per GPU keep their activations; only the others are "
        "computed a second time. `s1 plan` says what fits. Not set: all are computed again.",
    )
    dollars_per_gpu_hour: float | None = Field(
        default=None,
        gt=0,
        description="Price of a GPU hour: dollars so far and to come are logged beside GPU hours.",
    )
    evaluate: EvaluateConfig | None = Field(
        default=None,
        description="Evaluate the model after training: {tasks: [s1_aime]}. A failed evaluation "
        "loses nothing: the command to repeat is printed.",
    )
    nano: NanoConfig | None = Field(
        default=None,
        description="Make the nano world before training (see axolotl_configs/s1_nano.yaml).",
    )

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return get_format(value).name

    @model_validator(mode="after")
    def _balance_needs_the_loss(self) -> S1Config:
        if self.balance and self.loss != "sequence":
            raise ValueError(
                "balance: true needs `loss: sequence`: averaged over tokens, rows packed together "
                "would weigh by their length"
            )
        return self


class S1Args(BaseModel):
    """What axolotl's config schema gains from the plugin."""

    s1: S1Config | None = Field(default=None, description="Settings of s1-plugin.")


def parse(block: object) -> S1Config:
    """The `s1:` block of a raw or validated config.

    Raises:
        ValueError: naming every key that is unknown or wrong, and the keys there are.
    """
    from pydantic import ValidationError

    if isinstance(block, S1Config):
        return block
    if block is None:
        return S1Config()
    if not isinstance(block, Mapping):
        raise ValueError("`s1:` must be a block of settings, indented under the key")
    try:
        return S1Config.model_validate(dict(block))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, ('s1', *e['loc'])))}: {e['msg']}" for e in error.errors()]
        known = ", ".join(sorted(S1Config.model_fields))
        raise ValueError(
            "\n".join(["the `s1:` block is wrong:", *lines, f"known keys: {known}"])
        ) from None


def outside(cfg: Mapping[str, object]) -> str | None:
    """What is wrong where a setting of ours stands beside the `s1:` block, not in it: axolotl would
    ignore it without a word. (None of our names is one of axolotl's.)"""
    names = sorted(set(S1Config.model_fields) & set(cfg))
    if not names:
        return None
    return (
        f"`{names[0]}:` belongs into the `s1:` block, indented under it; there axolotl ignores it"
    )
