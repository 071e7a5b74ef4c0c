"""What budget forcing adds to a decode step on a GPU, beside the step itself.

    python benchmarks/forcing_gpu.py [--json FILE]

The board and its kernel alone (no engine is needed): rows of 152,064 logits, as Qwen2.5 has. Times
are medians over interleaved repetitions, on the device (CUDA events, its queue filled) and on the
host (the call, not waiting for the device). Beside them, in the same run: one pass over the same
logits (`amax`), and the matrix products of one decode step of Qwen2.5-32B in bf16 (its 64 layers
and the output layer without attention, so a little less than a real step). The limit is the greater
of 100 microseconds and 2 % of that step. A wait for the device in a step is an error
(`torch.cuda.set_sync_debug_mode("error")`).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

VOCABULARY, WIDTH = 151_665, 152_064
ENDS = (151_643, 151_644, 151_645)
BATCHES = (1, 8, 32, 64, 128, 256)
REPEATS = 150

#: Qwen2.5-32B: hidden size, heads' width, key-value width, MLP width, layers.
HIDDEN, HEADS, KV, MLP, LAYERS = 5120, 5120, 1024, 27_648, 64


def board(batch: int, temperature: float, top_p: float, top_k: int):
    import numpy as np

    from s1_plugin.forcing.board import Board, Warpers
    from s1_plugin.forcing.budget import Plan

    plan = Plan(
        cap=10**6,
        context_bound=False,
        waits=10**6,
        min_thinking=0,
        wait_ids=((14_190,),),
        end_ids=frozenset(ENDS),
        natural_end=(151_644, 9217),
        capped_end=(151_644, 9217, 198, 19_357, 21_806, 25),
        newline=(198,),
        stop_ids=frozenset({151_643, 151_645}),
        max_new_tokens=10**6,
    )
    made = Board(
        batch,
        history=1,
        newlines=np.zeros(WIDTH, dtype=bool),
        vocabulary=VOCABULARY,
        device=torch.device("cuda"),
        listener=lambda *_: None,
    )
    for slot in range(batch):
        made.put(
            slot,
            "forced",
            Warpers(temperature, top_p, top_k, 0.0, key=slot),
            prompt=1,
            refused=1,
            plan=plan,
        )
    return made


#: name: (temperature, top-p, top-k, height of the end tokens, one row in so many has it)
CASES = {
    "greedy, thinking": (0.0, 1.0, 0, -30.0, 1),
    "top-p 0.95, thinking": (0.7, 0.95, 0, -30.0, 1),
    "greedy, every row replaces its end": (0.0, 1.0, 0, 30.0, 1),
    "top-p 0.95, one row in 16 is drawn": (0.7, 0.95, 0, 14.0, 16),
    "top-p 0.95, every row is drawn": (0.7, 0.95, 0, 14.0, 1),
    "top-p 0.95, top-k 20, every row is drawn": (0.7, 0.95, 20, 14.0, 1),
}


def measure(batch: int, case: tuple[float, float, int, float, int]) -> dict[str, float]:
    """Medians in microseconds: device and host time of a step, device time of one pass."""
    from s1_plugin.forcing import kernel

    temperature, top_p, top_k, height, every = case
    logits = torch.randn((batch, WIDTH), device="cuda") * 2
    logits[:, 1000:1010] += 12.0  # a peaked distribution, as a model's is
    logits[:, list(ENDS)] = -30.0
    logits[::every, list(ENDS)] = height
    given = logits.clone()
    made = board(batch, temperature, top_p, top_k)
    slots = torch.arange(batch, device="cuda")
    offsets = torch.zeros_like(slots)
    fed = torch.full_like(slots, 1000)
    positions = [torch.full_like(slots, at) for at in range(3 + REPEATS)]
    at = 0
    for _ in range(3):
        made.step(logits, slots, offsets, positions[at], fed)
        at += 1
        fed = logits.argmax(dim=-1)
        logits.copy_(given)
    torch.cuda.synchronize()
    device, host, passes = [], [], []
    for _ in range(REPEATS):
        start, stop, one_start, one_stop = (torch.cuda.Event(enable_timing=True) for _ in range(4))
        # The device is kept busy while the host fills its queue: what is timed there is its own
        # work alone, as it is in an engine that runs ahead of its results.
        torch.cuda._sleep(1_000_000)
        torch.cuda.set_sync_debug_mode("error")
        start.record()
        began = time.perf_counter()
        made.step(logits, slots, offsets, positions[at], fed)
        host.append((time.perf_counter() - began) * 1e6)
        stop.record()
        torch.cuda.set_sync_debug_mode("default")
        at += 1
        fed = logits.argmax(dim=-1)
        logits.copy_(given)
        one_start.record()
        logits.amax(dim=-1)
        one_stop.record()
        torch.cuda.synchronize()
        device.append(start.elapsed_time(stop) * 1e3)
        passes.append(one_start.elapsed_time(one_stop) * 1e3)
    waited = int(made.states[:, 0, kernel.WAITED.value].sum())
    return {
        "device_us": statistics.median(device),
        "device_p90_us": sorted(device)[int(0.9 * len(device))],
        "host_us": statistics.median(host),
        "one_pass_us": statistics.median(passes),
        "waits": waited,
    }


def decode_step() -> dict[int, float]:
    """Medians in microseconds of the matrix products of one decode step, by batch size."""
    shapes = [(HIDDEN, HEADS + 2 * KV), (HEADS, HIDDEN), (HIDDEN, 2 * MLP), (MLP, HIDDEN)]
    layers = [
        [
            torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_(std=0.02)
            for shape in shapes
        ]
        for _ in range(LAYERS)
    ]
    head = torch.empty((HIDDEN, WIDTH), dtype=torch.bfloat16, device="cuda").normal_(std=0.02)
    found = {}
    for batch in BATCHES:
        x = torch.randn((batch, HIDDEN), dtype=torch.bfloat16, device="cuda")
        wide = torch.randn((batch, MLP), dtype=torch.bfloat16, device="cuda")
        times = []
        for n in range(8):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for qkv, out, up, down in layers:
                x @ qkv
                x @ out
                x @ up
                wide @ down
            x @ head
            stop.record()
            torch.cuda.synchronize()
            if n > 1:
                times.append(start.elapsed_time(stop) * 1e3)
        found[batch] = statistics.median(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    import triton

    torch.manual_seed(0)
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}, "
        f"python {platform.python_version()}, seed 0, vocabulary {WIDTH}, {REPEATS} steps a case"
    )
    steps = decode_step()
    torch.cuda.empty_cache()
    rows = []
    print(f"{'batch':>5} {'case':<44}{'device':>9}{'p90':>9}{'host':>8}{'passes':>8}{'32B':>11}"
          f"{'share':>8}  limit")  # fmt: skip
    for batch in BATCHES:
        for name, case in CASES.items():
            row = {"batch": batch, "case": name, **measure(batch, case), "step_us": steps[batch]}
            rows.append(row)
            limit = max(100.0, 0.02 * steps[batch])
            print(
                f"{batch:>5} {name:<44}{row['device_us']:>7.0f}us{row['device_p90_us']:>7.0f}us"
                f"{row['host_us']:>6.0f}us{row['device_us'] / row['one_pass_us']:>8.2f}"
                f"{steps[batch] / 1e3:>9.2f}ms{row['device_us'] / steps[batch]:>8.2%}"
                f"  {'kept' if row['device_us'] <= limit else 'BROKEN'} ({limit:.0f} us)"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    broken = [r for r in rows if r["device_us"] > max(100.0, 0.02 * r["step_us"])]
    if broken:
        raise SystemExit(f"{len(broken)} cases take more than 100 us and 2 % of a 32B step")


if __name__ == "__main__":
    main()
