"""Data with something wrong in them, through the commands that people type."""

import json

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
ROW = json.dumps({"question": "1", "thinking_trajectories": ["2"], "attempt": "3"}) + "\n"


@pytest.fixture
def config(tmp_path):
    """The nano config, asked to learn from two more files in a folder."""
    settings = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    settings["s1"]["nano"]["rows"] = 200
    settings["datasets"] = [{"path": "more", "type": "s1_plugin.traces"}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.jsonl").write_text("\n" + ROW * 2)
    return tmp_path


def test_unknown_keys_of_our_block_are_refused_by_axolotl_train(config):
    settings = yaml.safe_load((config / "config.yaml").read_text())
    settings["s1"]["fromat"] = "s1"
    (config / "config.yaml").write_text(yaml.safe_dump(settings))
    done = run("axolotl", "train", "config.yaml", "--launcher", "python", cwd=config, check=False)
    assert done.returncode != 0
    assert "s1.fromat" in done.stderr and "known keys: bad_rows, balance," in done.stderr


@pytest.mark.parametrize(
    "command",
    [("axolotl", "preprocess"), ("axolotl", "train", "--launcher", "python"), ("s1", "doctor")],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (ROW + "\n" + ROW[:30], 'more/b.jsonl, line 3: \'{"question": "1", "thinking_tr\' is not'),
        (ROW + "\n" + ROW.replace('"3"', '""'), "more/b.jsonl, line 3: field 'attempt' is empty"),
    ],
    ids=["torn", "empty"],
)
def test_file_line_and_remedy_are_named(config, command, lines, words):
    (config / "more" / "b.jsonl").write_text(lines)
    program, verb, *options = command
    done = run(program, verb, "config.yaml", *options, cwd=config, check=False)
    assert done.returncode != 0
    if program == "s1":
        assert words in done.stdout
        assert done.stderr == ""
    else:  # ours is what is said last, not a traceback of something else
        assert words in done.stderr
        assert "line 3" in "".join(done.stderr.splitlines()[-6:])
