"""Beside axolotl: installing changes no package, uninstalling leaves no file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.e2e

#: What the test environment holds beyond `pip install axolotl==0.19.0`.
OURS = ["s1-plugin", "math-verify", "latex2sympy2_extended", "matplotlib", "contourpy", "cycler",
        "fonttools", "kiwisolver", "pyparsing", "hypothesis", "sortedcontainers", "mypy",
        "mypy_extensions", "types-PyYAML"]  # fmt: skip


def pip(python, *arguments):
    done = subprocess.run(
        [python, "-m", "pip", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder):
    """Everything below ``folder`` but what Python compiles as it goes."""
    return {
        p.relative_to(folder)
        for p in folder.rglob("*")
        if "__pycache__" not in p.parts or "s1" in p.parts or "s1_plugin" in p.parts
    }


def test_install_changes_nothing_and_uninstall_leaves_nothing(tmp_path):
    if sys.prefix == sys.base_prefix:
        pytest.skip("needs to run in a virtual environment, which it copies")
    copy = tmp_path / "venv"
    # Hard links: quick, and pip replaces files rather than writing into them.
    shutil.copytree(sys.prefix, copy, symlinks=True, copy_function=os.link)
    python = str(copy / "bin" / "python")
    pip(python, "uninstall", "-q", "-y", *OURS)
    before, listed = pip(python, "freeze"), files(copy)
    assert "axolotl==0.19.0" in before and "s1-plugin" not in before

    pip(python, "install", "-q", str(ROOT))
    after = [line for line in pip(python, "freeze").splitlines() if "s1-plugin" not in line]
    assert after == before.splitlines()

    lm_eval = [python, "-m", "lm_eval"]
    tasks = subprocess.run([*lm_eval, "ls", "tasks"], capture_output=True, text=True).stdout
    assert all(f"|{name} " in tasks for name in ("s1_aime", "s1_aime24", "s1_aime25", "s1_nano"))
    # Importing the task functions compiles them; that must go too.
    probe = "from lm_eval.tasks import TaskManager as T; T().load_task_or_group(['s1_nano'])"
    subprocess.run([python, "-c", probe], check=True, capture_output=True)
    where = subprocess.run(
        [python, "-c", "import s1_plugin; print(s1_plugin.__file__)"],
        capture_output=True, text=True, cwd=tmp_path,
    ).stdout  # fmt: skip
    assert Path(where.strip()).is_relative_to(copy)

    pip(python, "uninstall", "-q", "-y", "s1-plugin")
    assert files(copy) - listed == set()
