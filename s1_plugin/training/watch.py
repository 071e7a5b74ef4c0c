"""What a run says while it runs: the losses of thinking and answer, speed, and cost.

The entries are put into the trainer's own ``log``, before its history and axolotl's loggers
(tensorboard, wandb, trackio, the console) see it: the callbacks' `on_log` comes too late for those
that stand before ours.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from s1_plugin.console import say
from s1_plugin.plan.flops import of_rows
from s1_plugin.plan.hardware import GPUS
from s1_plugin.plan.shapes import Shape
from s1_plugin.training import loss
from s1_plugin.training.meter import Meter

#: Dense bfloat16 FLOP/s of variants that do less than their namesakes in a node of eight (NVIDIA's
#: data sheets, https://www.nvidia.com/en-us/data-center/h100/ and /h200/; they print the figures
#: with sparsity, twice these).
_VARIANTS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H200 NVL": 835e12}


def peak_of(name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a GPU by what `torch.cuda.get_device_name` says; None if unknown."""
    for variant, peak in _VARIANTS.items():
        if variant in name:
            return peak
    return next((gpu.flops for n, gpu in GPUS.items() if re.search(rf"\b{n}\b", name)), None)


class Watch(TrainerCallback):
    """Adds the entries to the trainer's logs. Every rank has one, as sums are over ranks; what is
    said is said by the first.

    Args:
        trainer: of `transformers`, as axolotl made it; its ``s1_meter`` is read when it logs.
        gpus: of all ranks; 0 on a CPU, where there are no GPU hours.
        peak: FLOP/s of all GPUs together; None if not known, or if FLOPs would not be right.
        dollars: per GPU hour.
    """

    def __init__(
        self, trainer: Any, *, gpus: int, peak: float | None = None, dollars: float | None = None
    ) -> None:
        self.trainer, self.gpus, self.dollars = trainer, gpus, dollars
        self.peak, self.shape = peak, shape_of(trainer) if peak else None
        self._began = self._logged = self._worked = time.perf_counter()
        self._paused = 0.0
        self._first_step = 0
        self._before: Mapping[str, float] = {}  # what the resumed run had logged
        self._tokens = 0
        log = trainer.log

        def log_more(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "loss" in logs:  # of training, not of evaluation
                logs.update(self.entries(trainer.state))
            log(logs, *args, **kwargs)

        trainer.log = log_more

    # -- the clock ------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = self._logged = self._worked = time.perf_counter()
        self._first_step = state.global_step
        self._before = next((e for e in reversed(state.log_history) if "tokens" in e), {})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._worked = time.perf_counter()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pause()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pause()

    def _pause(self) -> None:
        """Evaluating and saving cost money, but are not slow training."""
        now = time.perf_counter()
        self._paused, self._worked = self._paused + now - self._worked, now

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.entries(state)  # counts what no log has
        say(sentence(self.summary(state)))

    # -- what is logged -------------------------------------------------------------------

    def entries(self, state: Any) -> dict[str, float]:
        """The entries since the last call. All ranks call it together."""
        totals = self.trainer.s1_meter.take()
        flops = of_rows(self.shape, totals.lengths) if self.shape else 0.0
        sums = [
            totals.thinking_loss_sum,
            totals.thinking_tokens,
            totals.answer_loss_sum,
            totals.answer_tokens,
            totals.tokens,
            flops,
        ]
        accelerator = self.trainer.accelerator
        if accelerator.num_processes > 1:
            mine = torch.tensor(sums, dtype=torch.float64, device=accelerator.device)
            sums = accelerator.reduce(mine, "sum").tolist()
        thinking, thinking_tokens, answer, answer_tokens, tokens, flops = sums
        now = time.perf_counter()
        seconds, self._logged = now - self._logged - self._paused, now
        self._paused = 0.0
        self._tokens += round(tokens)
        found: dict[str, float] = {}
        if thinking_tokens:
            found["loss_thinking"] = thinking / thinking_tokens
        if answer_tokens:
            found["loss_answer"] = answer / answer_tokens
        if seconds > 0:
            found["tokens_per_second"] = round(tokens / seconds, 1)
            if self.shape and self.peak:
                found["mfu"] = round(flops / seconds / self.peak, 4)
        done = state.global_step - self._first_step
        left = (now - self._began) / max(1, done) * (state.max_steps - state.global_step)
        return {**found, "tokens": self._all_tokens(), **self._cost(now, left)}

    def summary(self, state: Any) -> dict[str, Any]:
        """The run so far: steps, tokens, seconds, cost, and the losses that were logged last."""
        last: Mapping[str, Any] = next((e for e in reversed(state.log_history) if "loss" in e), {})
        now = time.perf_counter()
        losses = ("loss", "loss_thinking", "loss_answer")
        return {
            "steps": state.global_step,
            "since_step": self._first_step,
            "of_steps": state.max_steps,
            "epochs": round(state.epoch or 0.0, 4),
            "tokens": self._all_tokens(),
            "seconds": round(now - self._began, 1),
            **self._cost(now),
            "losses": {
                **{name: last[name] for name in losses if name in last},
                **({"logged_at_step": last["step"]} if "step" in last else {}),
            },
        }

    def _all_tokens(self) -> int:
        return int(self._before.get("tokens", 0)) + self._tokens

    def _cost(self, now: float, left: float | None = None) -> dict[str, float]:
        """GPU hours and dollars so far (a resumed run's earlier ones with them), and to come."""
        if not self.gpus:
            return {}
        hours = {
            "": self._before.get("gpu_hours", 0.0) + self.gpus * (now - self._began) / 3600,
            "_left": None if left is None else self.gpus * left / 3600,
        }
        found = {f"gpu_hours{name}": round(h, 5) for name, h in hours.items() if h is not None}
        if self.dollars:
            found |= {
                f"dollars{name}": round(h * self.dollars, 4)
                for name, h in hours.items()
                if h is not None
            }
        return found


def sentence(summary: Mapping[str, Any]) -> str:
    """One line for the end of training."""
    losses = summary["losses"]
    parts = {name: losses.get(f"loss_{name}") for name in ("thinking", "answer")}
    split = ", ".join(f"{name} {value:.4f}" for name, value in parts.items() if value is not None)
    since = f" since step {summary['since_step']}" if summary["since_step"] else ""
    took = f"{summary['seconds']:.0f} s{since}"
    said = [f"{summary['steps']} steps, {summary['tokens']:,} tokens, {took}"]
    if "loss" in losses:
        said.append(f"loss {losses['loss']:.4f}" + (f" ({split})" if split else ""))
    if "gpu_hours" in summary:
        dollars = f", {summary['dollars']:.2f} dollars" if "dollars" in summary else ""
        said.append(f"{summary['gpu_hours']:.2f} GPU hours{dollars}")
    return "trained: " + "; ".join(said)


def shape_of(trainer: Any) -> Shape | None:
    """The shape of the model that is trained; None where its FLOPs are not known: another kind of
    model, or an adapter, whose backward pass leaves out the gradients of what is frozen."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not all(p.requires_grad for p in model.parameters()):
        return None
    try:
        return Shape.from_config(model.config.to_dict())
    except ValueError:
        return None


def install(trainer: Any, *, sequence_loss: bool, dollars: float | None) -> Watch:
    """Makes ``trainer`` log more, and returns the callback that keeps its clock.

    Args:
        sequence_loss: whether ``s1.loss: sequence`` is set, whose meter then counts tokens, too.
        dollars: per GPU hour; None if not to be said.
    """
    gpus = trainer.accelerator.num_processes if trainer.accelerator.device.type == "cuda" else 0
    peak = peak_of(torch.cuda.get_device_name()) if gpus else None
    low = trainer.args.bf16 or trainer.args.fp16  # the peak is that of 16-bit matrices
    trainer.s1_meter = Meter()
    if not sequence_loss:
        count_rows(trainer)
    return Watch(trainer, gpus=gpus, peak=peak * gpus if peak and low else None, dollars=dollars)


def count_rows(trainer: Any) -> None:
    """Makes every training step of ``trainer`` tell the meter its sequences."""
    step = trainer.training_step

    def training_step(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if loss.shard(trainer) == 0:
            trainer.s1_meter.add_rows(*loss.rows_of(inputs))
        return step(model, inputs, *args, **kwargs)

    trainer.training_step = training_step
