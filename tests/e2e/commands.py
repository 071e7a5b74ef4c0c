"""Running the real commands of this environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(*command: str, cwd: Path, python: str = sys.executable, check: bool = True, **env: str):
    """Runs a console script of the environment ``python`` belongs to; output is kept."""
    program, *arguments = map(str, command)
    path = Path(python).with_name(program)
    result = subprocess.run(
        [str(path if path.exists() else program), *arguments],
        cwd=cwd,
        env={
            **os.environ,
            # as in an activated environment: axolotl calls lm_eval by its name
            "PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}",
            "AXOLOTL_DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            **env,
        },
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if check and result.returncode:
        tail = (result.stdout + result.stderr)[-6000:]
        raise AssertionError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{tail}")
    return result


def samples(folder: Path) -> list[dict[str, Any]]:
    """Rows of the one samples file below ``folder``, by document."""
    (path,) = folder.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["resps"] = [[json.loads(r) for r in budget] for budget in row["resps"]]
    return sorted(rows, key=lambda row: row["doc_id"])


def responses(folder: Path) -> list[dict[str, Any]]:
    """All responses below ``folder``: every document, every budget, every repeat."""
    return [r for row in samples(folder) for budget in row["resps"] for r in budget]
