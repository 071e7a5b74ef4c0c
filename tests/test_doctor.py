"""What `s1 doctor` says of configs with one thing wrong."""

import json

import pytest
import yaml

from s1_plugin.doctor import check_installation
from s1_plugin.doctor import found as version_of
from s1_plugin.doctor_config import check_config
from tests.conftest import ROOT

NANO_DATA = {
    "path": "outputs/nano/train.jsonl",
    "ds_type": "json",
    "type": "s1_plugin.traces",
}


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
        ({"base_model": None}, "names no model"),
        ({"chat_template": "phi_3"}, "chat template"),
        ({"adapter": "lora", "s1": {"weights": "float32"}}, "an adapter trains"),
        (
            {"datasets": [{**NANO_DATA, "feild_human": "question"}]},
            "`feild_human` of a data set did you mean `field_human`?",
        ),
    ],
)
def test_each_mistake_is_found(config, changes, words):
    found = failures(config(**changes))
    assert any(words in f"{f.what} {f.remedy}" for f in found), found


def test_over_long_rows_that_may_be_dropped_are_a_note(config):
    path = config(sequence_len=40, excess_length_strategy="drop")
    assert failures(path) == []
    assert any("longer than sequence_len" in f.what for f in check_config(path))


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "deepspeed"),
        ({"optimizer": "optimi_adamw"}, "torch-optimi"),
        ({"optimizer": "flash_adamw"}, "flashoptim"),
        ({"context_parallel_size": 2}, "ring-flash-attn"),
    ],
)
def test_packages_that_training_will_miss_are_named(config, changes, package):
    found = [f for f in check_config(config(**changes)) if package in f.what]
    if version_of(package):
        assert not [f for f in found if f.status == "note"]
    else:
        (note,) = found
        assert note.status == "note" and "pip install" in note.remedy


def test_what_is_not_yaml_is_said(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: [")
    assert "not YAML" in failures(path)[0].what


def data_set(tmp_path, lines):
    """A data set beside the nano one."""
    (tmp_path / "more.jsonl").write_text("".join(lines))
    return {"datasets": [NANO_DATA, {**NANO_DATA, "path": "more.jsonl"}]}


ROW = json.dumps({"question": "1", "thinking_trajectories": ["2"], "attempt": "3"}) + "\n"


def test_looking_leaves_no_files(config, tmp_path):
    path = config()
    before = sorted(tmp_path.rglob("*"))
    found = list(check_config(path))
    assert any("outputs/nano/train.jsonl: 200 rows, all readable" in f.what for f in found), found
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_rows_and_lines_that_are_no_json_are_named_by_line(config, tmp_path):
    bad = ROW.replace('"3"', '""')
    said = [f.what for f in failures(config(**data_set(tmp_path, [ROW, "\n", bad])))]
    assert any("more.jsonl, line 3: field 'attempt' is empty" in what for what in said), said
    said = [f.what for f in failures(config(**data_set(tmp_path, [ROW, "\n", bad[:20]])))]
    assert any("more.jsonl, line 3" in what and "is not JSON" in what for what in said), said


def test_over_long_rows_are_named_by_line(config, tmp_path):
    long = ROW.replace('"2"', f'"{"2" * 99}"')
    changes = data_set(tmp_path, ["\n", ROW, ROW.replace('"3"', '""'), long])
    found = list(check_config(config(**changes, s1={**config.settings["s1"], "bad_rows": "skip"})))
    assert any("(more.jsonl, line 4)" in f.what for f in found), found


def test_system_messages_are_told(config, tmp_path):
    turns = [("system", "S"), ("user", "Q"), ("assistant", "<think>T</think>A")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    found = list(check_config(config(**data_set(tmp_path, [json.dumps(row) + "\n"]))))
    assert any("1 system messages NOT USED" in f.what for f in found), found


def test_the_tokenizer_is_the_one_that_training_sees(config):
    """`tokens`, `special_tokens` and `chat_template` of the config are axolotl's to apply."""
    tags = {"s1": {**config.settings["s1"], "format": "think-tags"}}
    assert any("</think>" in f.what for f in failures(config(**tags)))
    assert failures(config(**tags, tokens=["<think>", "</think>"])) == []
    found = list(check_config(config(special_tokens={"pad_token": "<|endoftext|>"})))
    assert any("pad token '<|endoftext|>' would not be told" in f.what for f in found), found
