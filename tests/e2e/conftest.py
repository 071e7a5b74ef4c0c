"""The demo is run once; several tests look at what it left."""

import pytest

from tests.e2e.commands import run


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Folder in which `s1 demo` ran with its default seed; its output is in demo.txt."""
    folder = tmp_path_factory.mktemp("demo")
    done = run("s1", "demo", cwd=folder)
    (folder / "demo.txt").write_text(done.stdout)
    return folder
