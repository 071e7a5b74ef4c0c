"""Real questions with short traces of many lengths: input for `s1 curate`."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

WITHOUT = ("--without-benchmark", "aime25", "--without-benchmark", "gpqa_diamond")


def write(path: Path, data_dir: Path, times: int = 1) -> int:
    """Writes 912 rows, and ``times - 1`` times the same questions with other numbers; how many."""
    lines = (data_dir / "s1k-questions.jsonl").read_text(encoding="utf-8").splitlines()
    rng = random.Random(0)
    with path.open("w") as file:
        for number, line in enumerate(lines * times):
            row = json.loads(line)
            question = row["question"]
            if number >= len(lines):
                question = re.sub(
                    r"\d+", lambda m: str(rng.randrange(2, 10 ** len(m[0]) + 2)), question
                )
            found = {
                "question": question,
                "solution": row["solution"],
                "source_type": ("gpqa", "aops", "simplescaling/openaimath/x")[number % 3],
                "correct": number % 30 == 0,
                "thinking_trajectories": [f"Wait. {'so ' * (number * 37 % 400 + 1)}"],
                "attempt": "Answer: <b>1</b>",
                "teacher": "deepseek-reasoner",
                "host": "api.deepseek.com",
                "tokens": number * 37 % 7001,
                "status": "truncated" if number % 100 == 7 else "ok",
            }
            file.write(json.dumps(found) + "\n")
    return len(lines) * times
