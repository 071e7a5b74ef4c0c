import json
import shlex
import sys
from itertools import pairwise

import pytest

from s1_plugin.config import EvaluateConfig, parse
from s1_plugin.training import evaluate

CFG = {"output_dir": "out dir/model", "bf16": True, "base_model": "Qwen/Qwen2.5-7B-Instruct"}


def test_the_command_of_a_config():
    block = {
        "tasks": ["s1_aime", "s1_math500"],
        "gen_kwargs": {"max_tokens_thinking": [500, "auto"]},
    }
    settings = parse({"evaluate": block}).evaluate
    arguments = evaluate.model_args(CFG, "out dir/model", {"parallelize": True})
    words = evaluate.command(settings, arguments, "out dir/model/eval")
    assert words[:4] == ["lm_eval", "run", "--model", "hf"]
    given = dict(pairwise(words))
    assert json.loads(given["--model_args"]) == {
        "pretrained": "out dir/model", "dtype": "bfloat16", "parallelize": True,
    }  # fmt: skip
    assert given["--tasks"] == "s1_aime,s1_math500" and given["--batch_size"] == "8"
    assert json.loads(given["--gen_kwargs"]) == block["gen_kwargs"]
    assert shlex.split(shlex.join(words)) == words


def test_an_adapter_is_put_on_its_base():
    found = evaluate.model_args({**CFG, "adapter": "lora", "bf16": False}, "o", {})
    assert found == {"pretrained": CFG["base_model"], "peft": "o", "dtype": "float32"}


def test_it_is_no_rank_of_the_launcher(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
                 "GROUP_RANK", "ROLE_RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP",
                 "FSDP_VERSION", "MASTER_PORT"):  # fmt: skip
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("S1_EVAL_DATA", "kept")
    found = evaluate.environment()
    assert found["S1_EVAL_DATA"] == "kept" and "PATH" in found
    assert not [n for n in found if "RANK" in n or "WORLD" in n or "MASTER" in n or "FSDP" in n]


def test_unknown_tasks_and_keys_are_refused():
    with pytest.raises(ValueError, match=r"does not know s1_amie; ours are .*s1_aime"):
        evaluate.check(EvaluateConfig(tasks=["s1_amie"]))
    evaluate.check(EvaluateConfig(tasks=["s1_nano"]))
    with pytest.raises(ValueError, match=r"s1\.evaluate"):
        parse({"evaluate": ["s1_nano"]})


def test_budgets_are_checked_before_training():
    for wrong, said in (
        ({"max_token_thinking": 8}, "max_tokens_thinking"),
        ({"max_tokens_thinking": "many"}, "max_tokens_thinking"),
    ):
        with pytest.raises(ValueError, match=rf"s1\.evaluate\.gen_kwargs: .*{said}"):
            evaluate.check(EvaluateConfig(tasks=["s1_nano"], gen_kwargs=wrong))
    right = {"max_tokens_thinking": [8, "auto"], "thinking_n_ignore": 2}
    evaluate.check(EvaluateConfig(tasks=["s1_nano"], gen_kwargs=right))


def test_a_failure_is_said_with_the_command_to_repeat(tmp_path, monkeypatch, capfd):
    """lm_eval itself fails, on a folder without a model."""
    monkeypatch.setenv("RANK", "0")
    assert not evaluate.run({"output_dir": str(tmp_path)}, EvaluateConfig(tasks=["s1_nano"]))
    said = capfd.readouterr().err
    assert "FAILED (exit status" in said and "the model is saved. Again: lm_eval run" in said


def test_a_program_that_is_not_there_is_said_too(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert not evaluate.run({"output_dir": str(tmp_path)}, EvaluateConfig(tasks=["s1_nano"]))
    assert "FAILED" in capfd.readouterr().err
