"""One of several ranks of `lm_eval.simple_evaluate` over gloo; started by torchrun.

lm-eval makes ranks of `accelerate launch` on GPUs only. Its evaluator's way with ranks (documents
dealt out, results gathered) is the same anywhere: here the model's class is told its rank.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    model, tasks, out = sys.argv[1:]
    os.environ["ACCELERATE_USE_CPU"] = "true"  # else accelerate sees no ranks without a GPU
    import lm_eval
    from accelerate import Accelerator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(model, dtype="float32", device="cpu", batch_size=16)
    lm.accelerator = Accelerator(cpu=True)
    lm._rank, lm._world_size = lm.accelerator.process_index, lm.accelerator.num_processes
    found = lm_eval.simple_evaluate(
        model=lm,
        tasks=["s1_nano"],
        apply_chat_template=True,
        gen_kwargs={"max_tokens_thinking": [4, "auto"], "thinking_n_ignore": [2]},
        limit=41,
        bootstrap_iters=10,
        task_manager=TaskManager(include_path=tasks, include_defaults=False),
    )
    if found is not None:  # rank 0
        rows = [{"doc": row["doc"], "resps": row["resps"]} for row in found["samples"]["s1_nano"]]
        rows.sort(key=lambda row: row["doc"]["problem"])
        Path(out).write_text(json.dumps({"rows": rows, "ranks": lm.world_size}))


if __name__ == "__main__":
    main()
