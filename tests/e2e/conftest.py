"""The demo is run once; several tests look at what it left."""

import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.commands import run


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Folder in which `s1 demo` ran with its default seed; its output is in demo.txt. With
    S1_DEMO_DIR it stays there, for the tests inside vLLM."""
    if "S1_DEMO_DIR" in os.environ:
        folder = Path(os.environ["S1_DEMO_DIR"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    else:
        folder = tmp_path_factory.mktemp("demo")
    done = run("s1", "demo", cwd=folder)
    (folder / "demo.txt").write_text(done.stdout)
    return folder
