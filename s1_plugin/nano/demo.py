"""The demo: train, evaluate, draw. Each step is a command one could type, and is shown."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import time
from contextlib import redirect_stderr
from pathlib import Path

from s1_plugin.commands.configs import shipped
from s1_plugin.commands.curve import table
from s1_plugin.evaluation import metrics, report, samples
from s1_plugin.evaluation.runs import Run
from s1_plugin.evaluation.shown import accuracy, fixed, percent
from s1_plugin.nano import controls, steps

#: Thinking caps and Waits of the demo's curve, in nano tokens.
CAPS = [2, 4, 6, 7, 8, 9, "auto"]
WAITS = [1, 2, 3, 4]
#: What stands in Wait's place in the control.
NEUTRAL = "Hmm"


def run(*, seed: int, out: str) -> dict[str, Path]:
    """Runs the demo into ``out``; returns the paths of the curve's files.

    Raises:
        SystemExit: if one of the commands fails, after the end of its output.
    """
    folder = Path(out)
    config = _config(seed, folder)
    model, results = folder / "model", folder / "eval"
    for stale in (model, results):
        shutil.rmtree(stale, ignore_errors=True)
    train = ["axolotl", "train", str(config), "--launcher", "python"]
    evaluate = _evaluate(model, results, {"max_tokens_thinking": CAPS, "thinking_n_ignore": WAITS})
    control = _evaluate(
        model,
        folder / "eval-control",
        {"thinking_n_ignore": WAITS, "thinking_n_ignore_str": NEUTRAL},
    )
    started = time.monotonic()
    steps.run(train, folder / "train.log", "training")
    steps.run(evaluate, folder / "eval.log", "evaluating")
    steps.run(control, folder / "control.log", f"evaluating the control ({NEUTRAL} for Wait)")
    runs = samples.read([results, folder / "eval-control"])
    plain = next(r for r in runs if r.label == "auto")
    with redirect_stderr(io.StringIO()):  # what packages say on import
        foreign, error = controls.accuracy_with_foreign_thinking(model, plain)
    honesty = (
        f"control: each question answered after another question's thinking: "
        f"{accuracy(foreign, error)} % (chance is 10 %)"
    )
    paths = report.write(
        runs,
        folder,
        title=f"s1 nano: accuracy against thinking tokens (seed {seed})",
        commands=[shlex.join(c) for c in (train, evaluate, control)],
        notes=[f"Training seed {seed}; {plain.n} held-out questions, fixed seed.", honesty],
    )
    steps.say("results (± is the standard error):")
    print("\n".join(f"  {line}" for line in table(runs)), flush=True)
    for line in [*summary(runs), honesty]:
        steps.say(line)
    steps.say(f"{time.monotonic() - started:.0f} s in all. The curve, with every trace:")
    for path in paths.values():
        print(f"  {path}", flush=True)
    return paths


def summary(runs: list[Run]) -> list[str]:
    """The two differences that the demo is about, in points with standard errors."""
    by_label = {r.label: r for r in runs}
    capped = [r for r in runs if r.waits == 0]
    lowest = min(capped, key=lambda r: r.mean_thinking_tokens)
    waits = [r for r in runs if r.waits > 0 and r.wait_text == "Wait"]
    largest = max([*capped, *waits], key=lambda r: r.mean_thinking_tokens)
    best = max(waits, key=lambda r: r.accuracy)
    plain = by_label["auto"]
    lines = []
    for what, a, b in (
        ("more thinking", lowest, largest),
        ("Wait", plain, best),
    ):
        gain, error = metrics.paired_difference(a.correct, b.correct)
        lines.append(
            f"{what}: {a.label} {fixed(percent(a.accuracy))} % -> "
            f"{b.label} {fixed(percent(b.accuracy))} %: "
            f"{100 * gain:+.1f} ± {fixed(percent(error))} points"
        )
    return lines


def _config(seed: int, folder: Path) -> Path:
    """The shipped config; another seed or folder gets a copy with those set."""
    import yaml

    source = shipped() / "s1_nano.yaml"
    config = yaml.safe_load(source.read_text(encoding="utf-8"))
    if seed == config["seed"] and str(folder / "model") == config["output_dir"]:
        return source
    config["seed"] = config["s1"]["nano"]["seed"] = seed
    config["s1"]["nano"]["folder"] = str(folder)
    config["base_model"] = str(folder / "base")
    config["datasets"][0]["path"] = str(folder / "train.jsonl")
    config["dataset_prepared_path"] = str(folder / "prepared")
    config["output_dir"] = str(folder / "model")
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "s1_nano.yaml"
    copy.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return copy


def _evaluate(model: Path, results: Path, budgets: dict) -> list[str]:
    return [
        *("lm_eval", "run", "--model", "hf"),
        *("--model_args", f"pretrained={model},dtype=float32"),
        *("--tasks", "s1_nano", "--apply_chat_template", "--batch_size", "300"),
        *("--gen_kwargs", json.dumps(budgets)),
        *("--output_path", str(results), "--log_samples"),
    ]
