"""Is it honest? The thinking of another question must not help."""

from __future__ import annotations

from pathlib import Path

from s1_plugin.encoding import TextEncoder
from s1_plugin.evaluation.grading import grade
from s1_plugin.evaluation.metrics import binomial_error
from s1_plugin.evaluation.runs import Run
from s1_plugin.formats import S1


def accuracy_with_foreign_thinking(model_folder: Path, run: Run) -> tuple[float, float]:
    """Accuracy (0 to 1) and its standard error when every question is answered after the thinking
    of the next one, as `run` logged it; chance is 0.1. Greedy, one batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    encoder = TextEncoder(tokenizer)
    prompts = []
    for answer, other in zip(run.answers, [*run.answers[1:], run.answers[0]], strict=True):
        prompts.append(
            encoder.encode(encoder.prompt_pieces(answer.question.text, S1))
            + encoder.scaffold_ids(S1.think_start)
            + encoder.text_ids(other.thinking)
            + encoder.scaffold_ids(S1.answer_start)
        )
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**batch, max_new_tokens=8, do_sample=False)
    texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [
        grade(text, answer.question.target, "integer").correct
        for text, answer in zip(texts, run.answers, strict=True)
    ]
    share = sum(right) / len(right)
    return share, binomial_error(share, len(right))
