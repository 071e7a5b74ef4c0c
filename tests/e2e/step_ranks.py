"""One of several ranks that take one step of plain SGD under `s1.loss: sequence`; by torchrun.

axolotl runs one process on a CPU. What it hands a step to, transformers' Trainer over DDP, runs
several over gloo.
"""

import sys
from pathlib import Path

import torch


def main() -> None:
    world, out, micro, balanced = sys.argv[1:]
    import datasets
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    from s1_plugin.training import batches, loss

    rows = datasets.load_from_disk(f"{world}/rows")
    model = AutoModelForCausalLM.from_pretrained(f"{world}/base", dtype=torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    args = TrainingArguments(
        output_dir=f"{out}/trainer",
        use_cpu=True,
        per_device_train_batch_size=int(micro),
        gradient_accumulation_steps=1,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_steps=1,
        save_strategy="no",
        report_to=[],
        average_tokens_across_devices=False,  # as axolotl sets it
    )
    args.gradient_accumulation_steps = len(rows) // (args.world_size * int(micro))
    tokenizer = AutoTokenizer.from_pretrained(f"{world}/base")
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    loss.install(trainer)
    if balanced == "balanced":
        batches.install(trainer)
    said = trainer.train().training_loss
    if args.process_index == 0:
        moved = {name: before[name] - p.detach() for name, p in model.named_parameters()}
        torch.save(
            {"gradient": moved, "loss": said, "ranks": args.world_size}, Path(out) / "step.pt"
        )


if __name__ == "__main__":
    main()
