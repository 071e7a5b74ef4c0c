"""A trainer of `transformers`, outside axolotl, that is watched; also one of several ranks of it
over gloo (started by torchrun): python watched.py OUT."""

import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from s1_plugin.training import watch
from s1_plugin.training.meter import Meter


def rows(n=24):
    """Rows of 5 to 12 tokens; the last token is the answer, the two before it are thinking."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for i in range(n):
        ids = torch.randint(4, 30, (5 + i % 8,), generator=generator).tolist()
        out.append({"input_ids": ids, "labels": [-100] * (len(ids) - 3) + ids[-3:]})
    return out


def collate(features):
    width = max(len(f["input_ids"]) for f in features)
    pad = {"input_ids": 0, "labels": -100}
    batch = {
        name: torch.tensor([f[name] + [value] * (width - len(f[name])) for f in features])
        for name, value in pad.items()
    }
    lengths = torch.tensor([len(f["input_ids"]) for f in features])
    batch["attention_mask"] = (torch.arange(width) < lengths[:, None]).long()
    return batch


class Learner(Trainer):
    """Tells the meter its losses, as `s1.loss: sequence` does."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        labels = inputs["labels"][:, 1:]
        logits = model(**{k: v for k, v in inputs.items() if k != "labels"}).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits[labels != -100], labels[labels != -100])
        number = int((labels != -100).sum())
        answer = torch.arange(number) % 3 == 2
        # Constants instead of losses, so that the means over ranks and steps are known.
        self.s1_meter.add(torch.where(answer, 5.0, 1.0) * (1 + self.args.process_index), answer)
        return losses


def train(folder, steps=6, gpus=None, peak=None, dollars=None, report_to=(), more=None):
    """The trainer, trained."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=2, logging_steps=2,
        use_cpu=True, save_strategy="no", disable_tqdm=True, report_to=list(report_to),
    )  # fmt: skip
    trainer = Learner(
        LlamaForCausalLM(config), arguments, train_dataset=rows(), data_collator=collate
    )
    if gpus:  # as if the ranks had them
        trainer.s1_meter = Meter()
        watch.count_rows(trainer)
        watching = watch.Watch(trainer, gpus=gpus, peak=peak, dollars=dollars)
    else:
        watching = watch.install(trainer, sequence_loss=False, dollars=dollars)
    trainer.add_callback(watching)
    if more:
        trainer.add_callback(more(trainer, watching))
    trainer.train()
    return trainer


if __name__ == "__main__":
    trainer = train(sys.argv[1], gpus=2, peak=1e6, dollars=3.6)
    name = f"log-{trainer.args.process_index}.json"
    (Path(sys.argv[1]) / name).write_text(json.dumps(trainer.state.log_history))
