"""What `s1 doctor` says of configs with one thing wrong."""

import pytest
import yaml

from s1_plugin.doctor import check_config, check_installation
from tests.conftest import ROOT


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    settings["s1"]["nano"]["rows"] = 200

    def write(**changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**settings, **changes}))
        return path

    write.settings = settings
    return write


def failures(path):
    return [f for f in check_config(path) if f.status == "fail"]


def test_the_installation_and_the_nano_config_are_sound(config):
    assert not [f for f in check_installation() if f.status == "fail"]
    assert failures(config()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plugins": []}, "does not name the plugin"),
        ({"s1": {"fromat": "s1"}}, "fromat"),
        ({"train_on_inputs": True}, "train_on_inputs"),
        ({"sequence_len": 40}, "longer than sequence_len 40"),
        ({"lm_eval_tasks": ["s1_amie"]}, "s1_amie"),
        ({"lm_eval_tasks": "s1_amie"}, "names s1_amie"),
        ({"apply_chat_template": False}, "chat template"),
        ({"lm_eval_batch_size": None}, "batch size"),
        ({"special_tokens": {"pad_token": "<|im_end|>"}}, "pad token"),
        ({"datasets": [{"path": "nowhere.jsonl", "type": "s1_plugin.traces"}]}, "nowhere.jsonl"),
        ({"datasets": [{"path": "x", "type": "alpaca"}]}, "no data set of"),
        ({"base_model": "nowhere/at-all"}, "nowhere/at-all"),
    ],
)
def test_each_mistake_is_found(config, changes, words):
    found = failures(config(**changes))
    assert any(words in f"{f.what} {f.remedy}" for f in found), found


def test_over_long_rows_that_may_be_dropped_are_a_note(config):
    path = config(sequence_len=40, excess_length_strategy="drop")
    assert failures(path) == []
    assert any("longer than sequence_len" in f.what for f in check_config(path))


def test_what_is_not_yaml_is_said(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: [")
    assert "not YAML" in failures(path)[0].what
