import json
import shlex

import pytest
from click.testing import CliRunner

from s1_plugin.commands.curve import curve, evaluation
from tests.evaluation import fake_samples

PAPER = [500, 1000, 2000, 4000, 8000, 16000, "auto"]


def options(command):
    words = iter(command[2:])
    return {word: next(words) for word in words if word.startswith("--") and word not in FLAGS}


FLAGS = ("--apply_chat_template", "--log_samples")


def test_all_budgets_are_one_command(tmp_path):
    command = evaluation("org/m", ("a", "b"), PAPER, [1, 2], "hf", "--limit 5", tmp_path)
    asked = options(command)
    assert asked["--tasks"] == "a,b" and asked["--limit"] == "5"
    assert json.loads(asked["--gen_kwargs"]) == {
        "max_tokens_thinking": PAPER,
        "thinking_n_ignore": [1, 2],
    }
    assert shlex.split(shlex.join(command)) == command


def test_a_path_with_commas_and_spaces_stays_one_in_json(tmp_path):
    command = evaluation("/m o,d", ("a",), [5], [], "vllm", "", tmp_path)
    settings = json.loads(options(command)["--model_args"])
    assert settings["pretrained"] == "/m o,d" and settings["logits_processors"]
    assert json.loads(options(command)["--gen_kwargs"]) == {"max_tokens_thinking": [5]}


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ([], "give a DIR"),
        (["--run", "org/m"], "needs --task"),
        (["--run", "m", "--task", "t"], "no such folder"),
        ([".", "--caps", "5"], "--caps goes with --run MODEL only"),
        ([".", "--lm-eval", "x"], "--lm-eval goes with --run MODEL only"),
        ([".", "--compare", "."], "compared with itself"),
        (["--run", "org/m", "--task", "t", "--caps", "", "--waits", ""], "--caps or --waits"),
        (["--run", "org/m", "--task", "t", "--caps", "5,x"], "'x': give whole numbers or auto"),
        (["--run", "org/m", "--task", "t", "--waits", "auto"], "'auto': give whole numbers"),
    ],
)
def test_wrong_options_are_refused_with_the_remedy(arguments, wrong):
    found = CliRunner().invoke(curve, arguments)
    assert found.exit_code == 2 and wrong in found.output


def test_the_terminal_says_what_is_noise_and_what_was_left_out(tmp_path):
    for date in ("2026-01-02T03-04-05.678901", "2026-01-03T03-04-05.678901"):
        fake_samples.write(tmp_path / "a", {"max_tokens_thinking": [200, 210, 2000]}, date=date)
    found = CliRunner().invoke(curve, [str(tmp_path / "a"), "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    lines = [line for line in found.output.splitlines() if line.startswith("- ")]
    assert any("within noise: cap200 → cap210" in line for line in lines)
    assert any("left out" in line for line in lines)
