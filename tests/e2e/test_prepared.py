"""Killed while data are prepared, axolotl never trains on what was left."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def test_interrupted_prepared_data_are_never_taken_for_whole(tmp_path):
    cfg = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    cfg["s1"]["nano"]["rows"] = 4000
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(cfg))
    done = run(
        "python", Path(__file__).with_name("killed_preparing.py"), "config.yaml",
        tmp_path / cfg["dataset_prepared_path"], cwd=tmp_path, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    killed = re.findall(r"killed at .* over .*, left: .*", done.stdout)
    loaded = re.findall(r"loaded \d+ rows \w+", done.stdout)
    print(*killed, *loaded, sep="\n")
    assert len(killed) == 4 and len(loaded) == 5, done.stdout[-2000:]
    assert set(loaded) == {loaded[0]} and loaded[0].startswith("loaded 4000 rows")
