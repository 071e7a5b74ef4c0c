"""A draft of the model card, in the output folder's README.md, in place of the one `transformers`
writes: that one knows neither data nor cost, prints the config with any keys in it, and asks the
hub about the base model.

What somebody wrote by hand, or changed in an earlier draft, stays; the draft is then put beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s1_plugin.config import EvaluateConfig
from s1_plugin.console import say
from s1_plugin.training import evaluate

FILE_NAME, BESIDE = "README.md", "README.draft.md"
_SIGNATURE = re.compile(r"<!-- draft of s1-plugin ([0-9a-f]{64}) -->\n?\Z")
#: Of the drafts of transformers and peft.
_GENERATED = ("This model card has been generated automatically", "# Model Card for Model ID")
_HYPERPARAMETERS = (
    *("num_epochs", "max_steps", "micro_batch_size", "gradient_accumulation_steps"),
    *("sequence_len", "sample_packing", "optimizer", "learning_rate", "lr_scheduler"),
    *("warmup_steps", "warmup_ratio", "weight_decay", "adam_beta1", "adam_beta2"),
    *("max_grad_norm", "adapter", "lora_r", "lora_alpha"),
)


class Card:
    """README.md of ``output_dir``; made before training, to see what is there."""

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / FILE_NAME
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else None
        self._kept = text if text is not None and by_hand(text) else None

    def write(self, record: Mapping[str, Any]) -> Path:
        """Writes the draft for a run (of ``s1_run.json``); returns where."""
        draft = signed(render(record))
        if self._kept is None:
            self.path.write_text(draft, encoding="utf-8")
            say(f"a draft of the model card is in {self.path}; look for TODO")
            return self.path
        if self.path.read_text(encoding="utf-8") != self._kept:  # peft adds to what it finds
            self.path.write_text(self._kept, encoding="utf-8")
        beside = self.path.with_name(BESIDE)
        beside.write_text(draft, encoding="utf-8")
        say(f"{self.path} was written by hand and stays; a draft for this run is in {beside}")
        return beside


def by_hand(text: str) -> bool:
    """Whether ``text`` is anything but an untouched draft, ours or another's."""
    signature = _SIGNATURE.search(text)
    if signature:
        return _digest(text[: signature.start()]) != signature[1]
    return bool(text.strip()) and not any(mark in text for mark in _GENERATED)


def signed(text: str) -> str:
    """``text`` with a last line by which changes show."""
    return f"{text}<!-- draft of s1-plugin {_digest(text)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hub_name(name: Any) -> str | None:
    """``name`` if it can be that of a repository of the hub, and not a folder's."""
    text = str(name)
    good = re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith(".")
    return text if good and not Path(text).exists() else None


def render(record: Mapping[str, Any]) -> str:
    """The card for a run, in Markdown with the hub's YAML front matter
    (https://huggingface.co/docs/hub/model-cards)."""
    cfg = record["config"]
    out = str(cfg.get("output_dir") or "")
    names = [_hub_name(d.get("path")) for d in cfg.get("datasets") or []]
    lines = [
        *_front_matter(cfg, [name for name in names if name]),
        f"# {cfg.get('hub_model_id') or _title(Path(out))}",
        "",
        f"`{_shown(str(cfg.get('base_model')))}`, trained on reasoning traces with "
        "[s1-plugin](https://arxiv.org/abs/2501.19393) and axolotl: it thinks before it answers, "
        "and its thinking can be capped or prolonged (budget forcing).",
        "",
        "TODO: the licence (of the base model and of the data, too), who made this, what it is "
        "for, and results under budget forcing.",
        "",
        "## Data",
        "",
        *[
            f"- `{found['source']}`: {found['kept']:,} of {found['rows']:,} rows, "
            f"{found['tokens']:,} tokens, {found['learned_tokens']:,} of them learned"
            for found in record["data"]["sets"]
        ],
        f"- fingerprint of the prepared data: `{record['data']['fingerprint']}`",
        "",
        "## Training",
        "",
        f"- trace format `{(cfg.get('s1') or {}).get('format', 's1')}`; {record['precision']}",
        *[
            f"- {name}: {cfg[name]}"
            for name in _HYPERPARAMETERS
            if cfg.get(name) not in (None, False)
        ],
        f"- seed {record['seed']}; steps {record['steps']} of {record['of_steps']}; "
        f"rows per step {record['rows_per_step']}",
        *_results(record),
        "",
        "## Evaluation under budget forcing",
        "",
        "Without forcing, with a cap on the thinking, and with Waits:",
        "",
        "```bash",
        *_commands(cfg, str(cfg.get("hub_model_id") or _shown(out))),
        "```",
        "",
        "TODO: accuracies with standard error, number of questions, mean thinking tokens. AIME has "
        "30 problems: one is 3.3 points.",
        "",
        "## Limits",
        "",
        "- Taught on the data above alone; nothing was done for safety, other languages or chat of "
        "several turns.",
        "- Its thinking is not a faithful account of how it comes to its answers.",
        "- TODO: what else was seen.",
        "",
        "## Versions",
        "",
        ", ".join(f"{name} {found}" for name, found in record["versions"].items()),
        "",
    ]
    return "\n".join(lines) + "\n"


def _title(folder: Path) -> str:
    """``s1-7b`` of ``outputs/s1-7b/model``; nobody needs to know where that folder is."""
    return folder.resolve().parent.name if folder.name == "model" else folder.resolve().name


def _shown(place: str) -> str:
    """A folder as readers may see it: as the config has it, or the end of an absolute path."""
    path = Path(place)
    return "/".join(path.parts[-2:]) if path.is_absolute() else place


def _front_matter(cfg: Mapping[str, Any], datasets: list[str]) -> list[str]:
    import yaml

    adapter = bool(cfg.get("adapter"))
    found: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["axolotl", "s1", "reasoning", "budget-forcing"],
    }
    base = _hub_name(cfg.get("base_model"))
    if base:
        found |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    if datasets:
        found["datasets"] = sorted(set(datasets))
    return ["---", "# TODO license:", *yaml.safe_dump(found, sort_keys=False).splitlines(), "---"]


def _results(record: Mapping[str, Any]) -> list[str]:
    found = []
    losses = dict(record["losses"])
    step = losses.pop("logged_at_step", None)
    if losses:
        named = ", ".join(f"{k.replace('_', ' of ')} {v:.4f}" for k, v in losses.items())
        found.append(f"- {named} (training, logged last at step {step})")
    machine = record["hardware"]
    cost = f"- {machine['world_size']} × {machine['name']}, {record['seconds']:,.0f} s"
    if record.get("resumed_from"):
        cost += f" since it was resumed at step {record['resumed_from']['step']}"
    if "gpu_hours" in record:
        cost += f"; {record['gpu_hours']:.2f} GPU hours"
    if "dollars" in record:
        cost += f", {record['dollars']:.2f} dollars"
    return [*found, f"{cost}; {record['tokens']:,} input tokens"]


def _commands(cfg: Mapping[str, Any], out: str) -> list[str]:
    block = cfg.get("s1") or {}
    asked = block.get("evaluate") or {}
    usual = ["s1_nano"] if block.get("nano") else ["s1_aime", "s1_math500"]
    tasks = asked.get("tasks") or cfg.get("lm_eval_tasks") or usual
    arguments = evaluate.model_args(cfg, out, asked.get("model_args") or {})
    budgets: tuple[dict[str, Any], ...] = (
        {},
        {"max_tokens_thinking": 8 if block.get("nano") else 2000},
        {"max_tokens_thinking": "auto", "thinking_n_ignore": 2},
    )
    lines = []
    for number, kwargs in enumerate(budgets):
        settings = EvaluateConfig(
            tasks=[tasks] if isinstance(tasks, str) else list(tasks),
            gen_kwargs=kwargs,
            batch_size=asked.get("batch_size") or cfg.get("lm_eval_batch_size") or 8,
        )
        lines.append(shlex.join(evaluate.command(settings, arguments, f"results/{number}")))
    return lines


def install(trainer: Any, record: Mapping[str, Any], output_dir: Path) -> None:
    """Lets ``trainer`` write this card where it would write its own (axolotl asks it to after the
    model is saved, and uploads what is there)."""
    card = Card(output_dir)

    def create_model_card(*args: Any, **kwargs: Any) -> None:
        if trainer.is_world_process_zero():
            card.write(json.loads(json.dumps(record, default=str)))

    trainer.create_model_card = create_model_card
