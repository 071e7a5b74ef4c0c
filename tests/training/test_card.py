import copy
import shlex
from itertools import pairwise

import pytest
from huggingface_hub import ModelCard

from s1_plugin.training import card

RECORD = {
    "config": {
        "base_model": "Qwen/Qwen2.5-32B-Instruct",
        "output_dir": "outputs/s1/model",
        "datasets": [{"path": "simplescaling/s1K"}, {"path": "/data/mine.jsonl"}],
        "learning_rate": 1e-5,
        "num_epochs": 5,
        "bf16": True,
        "s1": {"format": "s1"},
        "lm_eval_tasks": ["s1_aime"],
    },
    "data": {
        "fingerprint": "0123456789abcdef",
        "sets": [
            {
                "source": "simplescaling/s1K",
                "rows": 1000,
                "kept": 999,
                "tokens": 4_700_000,
                "learned_tokens": 4_500_000,
            }
        ],
    },
    "hardware": {"world_size": 16, "name": "NVIDIA H100 80GB HBM3"},
    "precision": "precision: float32 weights",
    "versions": {"torch": "2.13.0"},
    "seed": 42,
    "steps": 315,
    "of_steps": 315,
    "rows_per_step": 16,
    "tokens": 23_500_000,
    "seconds": 1020.0,
    "gpu_hours": 4.53,
    "dollars": 11.33,
    "losses": {"loss": 0.4, "loss_thinking": 0.41, "loss_answer": 0.2, "logged_at_step": 315},
    "resumed_from": None,
}


def commands(text):
    return [shlex.split(line) for line in text.splitlines() if line.startswith("lm_eval ")]


def test_the_hub_reads_its_front_matter():
    found = ModelCard(card.signed(card.render(RECORD))).data
    assert found.base_model == "Qwen/Qwen2.5-32B-Instruct" and found.library_name == "transformers"
    assert found.datasets == ["simplescaling/s1K"]  # a local file is no data set of the hub
    assert found.pipeline_tag == "text-generation" and found.license is None


def test_it_says_what_was_trained_at_what_cost():
    text = card.render(RECORD)
    assert "\n# s1\n" in text  # of outputs/s1/model
    for words in (
        "999 of 1,000 rows", "learning_rate: 1e-05", "seed 42", "steps 315 of 315",
        "loss 0.4000, loss of thinking 0.4100, loss of answer 0.2000", "at step 315",
        "16 × NVIDIA H100 80GB HBM3", "4.53 GPU hours, 11.33 dollars", "TODO: the licence",
    ):  # fmt: skip
        assert words in text, words


def test_its_commands_are_those_of_lm_eval():
    found = commands(card.render(RECORD))
    assert len(found) == 3
    for command in found:
        options = dict(pairwise(command))
        assert command[:2] == ["lm_eval", "run"] and options["--tasks"] == "s1_aime"
        assert '"pretrained": "outputs/s1/model"' in options["--model_args"]
        assert "--apply_chat_template" in command
    assert "--gen_kwargs" not in found[0] and "thinking_n_ignore" in found[2][-4]


def test_it_tells_nobody_where_the_folders_of_this_machine_are():
    record = copy.deepcopy(RECORD)
    record["config"] |= {"output_dir": "/home/me/s1/model", "base_model": "/data/models/qwen"}
    text = card.render(record)
    assert "/home" not in text and "/data" not in text
    assert '"pretrained": "s1/model"' in text and "`models/qwen`" in text


def test_the_nano_model_is_evaluated_on_its_own_task():
    record = copy.deepcopy(RECORD)
    del record["config"]["lm_eval_tasks"]  # axolotl keeps it for its own plugin only
    record["config"]["s1"] = {"nano": {"folder": "outputs/nano"}}
    for command in commands(card.render(record)):
        assert dict(pairwise(command))["--tasks"] == "s1_nano"


def test_an_adapter_is_told_as_one():
    record = copy.deepcopy(RECORD)
    record["config"] |= {"adapter": "lora", "lora_r": 16}
    text = card.render(record)
    assert ModelCard(text).data.library_name == "peft"
    assert '"peft": "outputs/s1/model"' in text and "lora_r: 16" in text


@pytest.mark.parametrize("before", [None, card.signed("an earlier draft\n"), "", "\n",
    "---\nlibrary_name: peft\n---\n# Model Card for Model ID\n",
    "<!-- This model card has been generated automatically according to ... -->\n"])  # fmt: skip
def test_drafts_are_replaced(tmp_path, before):
    path = tmp_path / "README.md"
    if before is not None:
        path.write_text(before)
    assert card.Card(tmp_path).write(RECORD) == path
    assert "999 of 1,000 rows" in path.read_text()
    assert not card.by_hand(path.read_text())
    card.Card(tmp_path).write(RECORD)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    "text",
    ["# Mine\n", card.signed("draft\n").replace("draft\n", "mended\n"), card.signed("x") + "more"],
)
def test_what_was_written_by_hand_stays(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    made = card.Card(tmp_path)
    path.write_text(text + "\npeft was here\n")  # as its save_pretrained does
    assert made.write(RECORD) == tmp_path / "README.draft.md"
    assert path.read_text() == text
    assert "999 of 1,000" in (tmp_path / "README.draft.md").read_text()
