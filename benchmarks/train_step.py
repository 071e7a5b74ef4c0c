"""Forward and backward of one row on one GPU: the authors' recipe and ours, side by side.

    python benchmarks/train_step.py [--out constants.json] [--lengths 4096 16384 32768]

Layers of Qwen2.5-32B's shape with its embeddings and output layer, in bf16 as FSDP gathers them, at
several depths: a straight line through the times gives those of all 64 layers. What a step does
besides (gathering weights, the optimiser) is not in it.

- *authors*: a row by itself, logits of all positions at once, loss in float32, no fused kernels;
- *ours*: `s1.loss: sequence` (the loss in chunks, of learned positions only), and Liger's norms,
  rotary embedding and feed-forward where liger-kernel is installed, as axolotl's plugin sets them.

Both with the same attention (flash-attn where it is installed, else torch's) and the same
recomputation. Memory is the peak above what weights and gradients take. Each row is measured in
alternation and the median taken. MFU counts model FLOPs only (`s1_plugin.plan.flops`).

With a GPU the targets are 1.2 times the authors' tokens per second at 16K tokens, and an MFU of
50 % without and 40 % with recomputation. ``--out`` writes the constants for `s1 plan --constants`.
Without a GPU two layers of Qwen2.5-0.5B run on a short row in float32, as they are: the same code,
no extrapolation and no targets.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from engines import Targets

from s1_plugin.plan import flops
from s1_plugin.plan.hardware import GPUS
from s1_plugin.plan.shapes import Shape
from s1_plugin.training import loss

LARGE = {
    "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27_648, "vocab_size": 152_064,
    "num_attention_heads": 40, "num_key_value_heads": 8, "num_hidden_layers": 64,
}  # fmt: skip
SMALL = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "vocab_size": 151_936,
    "num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 24,
}  # fmt: skip
RECIPES = ("authors", "ours")
#: Of a row's tokens, those of the prompt, which are not learned.
PROMPT = 1 / 16


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def model(shape: dict, layers: int, recipe: str, recompute: bool, device: str):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    kind = "flash_attention_2" if device == "cuda" and installed("flash-attn") else "sdpa"
    config = Qwen2Config(**{**shape, "num_hidden_layers": layers}, attn_implementation=kind)
    torch.manual_seed(0)
    with torch.device(device):
        made = Qwen2ForCausalLM._from_config(
            config, dtype=torch.bfloat16 if device == "cuda" else torch.float32
        )
    if recipe == "ours":
        if device == "cuda" and installed("liger-kernel"):
            from liger_kernel.transformers import apply_liger_kernel_to_qwen2

            apply_liger_kernel_to_qwen2(
                cross_entropy=False, fused_linear_cross_entropy=False, model=made
            )
        loss.use_weights(made, None)
    if recompute:
        made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    made.config.use_cache = False
    return made.train()


def batch(n: int, vocabulary: int, device: str):
    generator = torch.Generator().manual_seed(n)
    ids = torch.randint(0, vocabulary, (1, n), generator=generator)
    labels = ids.clone()
    labels[:, : int(n * PROMPT)] = -100
    return ids.to(device), labels.to(device)


def one_step(made, recipe: str, ids, labels) -> None:
    if recipe == "ours":
        targets, weights = loss.token_weights(labels, None)
        found = made(input_ids=ids, targets=targets, weights=weights.view(torch.int32)).loss
    else:
        found = made(input_ids=ids, labels=labels).loss
    found.backward()


class Memory:
    """The peak of what a step takes above what is there before it: on the GPU, or in the process
    (which only grows, so there it is a lower bound after the first)."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()

    def taken(self) -> float | None:
        if self.device == "cuda":
            return (torch.cuda.max_memory_allocated() - self.before) / 1e9
        return None


def timed(made, recipe: str, ids, labels, device: str) -> tuple[float, float | None]:
    """Seconds and gigabytes of a step; gradients stay allocated, as they do in accumulation."""
    memory = Memory(device)
    start = time.perf_counter()
    one_step(made, recipe, ids, labels)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, memory.taken()


def measure(shape, depths, n, recompute, device, repeats):
    """{recipe: {depth: (median seconds, seconds, gigabytes)}}; a recipe that does not fit: None."""
    found = {recipe: {} for recipe in RECIPES}
    ids, labels = batch(n, shape["vocab_size"], device)
    for depth in depths:
        made, times, peaks = {}, {r: [] for r in RECIPES}, {}
        for recipe in RECIPES:  # one after another: both models' gradients may not fit
            try:
                made = model(shape, depth, recipe, recompute, device)
                one_step(made, recipe, ids, labels)  # compiles, and allocates gradients
                for _ in range(repeats):
                    seconds, peak = timed(made, recipe, ids, labels, device)
                    times[recipe].append(seconds)
                    peaks[recipe] = peak
            except torch.cuda.OutOfMemoryError:
                times[recipe] = []
            made = None
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
        for recipe in RECIPES:
            if times[recipe]:
                entry = (statistics.median(times[recipe]), times[recipe], peaks[recipe])
                found[recipe][depth] = entry
    return found


def whole(by_depth: dict, layers: int) -> float | None:
    """Seconds at ``layers`` layers, by the straight line of least squares; None from one depth that
    is another."""
    if layers in by_depth:
        return by_depth[layers][0]
    if len(by_depth) < 2:
        return None
    xs, ys = list(by_depth), [entry[0] for entry in by_depth.values()]
    mx, my = statistics.mean(xs), statistics.mean(ys)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mx) ** 2 for x in xs
    )
    return my + slope * (layers - mx)


def done(shape: Shape, n: int, recipe: str, recompute: bool) -> float:
    """All FLOPs of a row that are done, the recomputed ones too."""
    found = flops.of_rows(shape, [n])
    if recompute:
        found += flops.total(flops.recompute_cost(shape, early_stop=True), [n])
    if recipe == "ours":
        found += 2.0 * shape.vocab * shape.hidden * n * (1 - PROMPT)
    return found


def peak(name: str) -> float | None:
    """FLOP/s of the GPU at best, by its name."""
    for gpu in sorted(GPUS.values(), key=lambda gpu: -len(gpu.name)):
        if gpu.name in name:
            return gpu.flops
    return None


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+")
    parser.add_argument("--depths", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="write the constants for `s1 plan --constants` here")
    asked = parser.parse_args()
    device = "cuda" if cuda else "cpu"
    settings = LARGE if cuda else SMALL
    lengths = asked.lengths or ([4096, 16_384, 32_768] if cuda else [256])
    depths = asked.depths or ([2, 4, 6] if cuda else [2])
    settings = settings if cuda else {**settings, "num_hidden_layers": max(depths)}
    shape = Shape.from_config(settings)
    name = torch.cuda.get_device_name() if cuda else platform.processor() or "CPU"
    best = peak(name) if cuda else None
    names = ("torch", "transformers", "flash-attn", "liger-kernel")
    versions = {n: v for n in names if (v := installed(n))}
    command = "python benchmarks/train_step.py " + " ".join(sys.argv[1:])
    print(f"{name}; {versions}; seed 0; median of {asked.repeats}; depths {depths}\n{command}")
    if not cuda:
        print("no GPU: two layers of Qwen2.5-0.5B in float32, no targets")
    targets, efficiency = Targets(), {}
    header = (
        f"{'tokens':>7} {'recompute':>9} {'recipe':>8} {'tokens/s':>9} {'MFU':>6} {'peak GB':>8}"
    )
    print(header)
    for recompute in (True, False):
        for n in lengths:
            found = measure(settings, depths, n, recompute, device, asked.repeats)
            speed = {}
            for recipe in RECIPES:
                seconds = whole(found[recipe], shape.layers)
                label = f"{n:>7} {'full' if recompute else 'none':>9} {recipe:>8}"
                if seconds is None:
                    print(f"{label} does not fit at two depths")
                    continue
                speed[recipe] = n / seconds
                mfu = flops.of_rows(shape, [n]) / seconds / best if best else None
                deepest = found[recipe][max(found[recipe])]
                spread = max(deepest[1]) / min(deepest[1]) - 1
                memory = f"{deepest[2]:8.1f}" if deepest[2] is not None else f"{'':>8}"
                rate = f"{mfu:6.1%}" if mfu else f"{'':>6}"
                print(f"{label} {speed[recipe]:9.0f} {rate} {memory}  (spread {spread:.0%})")
                if best and recompute and n == 16_384:
                    efficiency[recipe] = done(shape, n, recipe, True) / seconds / best
                if best and recipe == "ours" and n == 16_384:
                    wanted = 0.4 if recompute else 0.5
                    targets(f"MFU {mfu:.1%}, wanted {wanted:.0%}", bool(mfu and mfu >= wanted))
            if len(speed) == 2:
                ratio = speed["ours"] / speed["authors"]
                print(f"{'':>7} {'':>9} {'ratio':>8} {ratio:9.2f}")
                if cuda and recompute and n == 16_384:
                    targets(f"{ratio:.2f} times the authors', wanted 1.2", ratio >= 1.2)
    if not cuda:
        top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"peak memory of the process: {top:.1f} GB")
    if asked.out and set(efficiency) == set(RECIPES):
        record = {
            "device": name, "efficiency": efficiency, "versions": versions, "command": command,
        }  # fmt: skip
        Path(asked.out).write_text(json.dumps(record, indent=2) + "\n")
        print(f"written: {asked.out}")
    if cuda:
        targets.check()


if __name__ == "__main__":
    main()
