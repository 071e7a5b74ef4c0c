import json

import pytest
from axolotl.utils.dict import DictDefault

from s1_plugin.training import record
from s1_plugin.training.record import STRUCK_OUT
from tests.training.watched import train

SECRETS = {
    "hub_token": "plain words",
    "wandb_api_key": "x",
    "AWS_SECRET_ACCESS_KEY": "y",
    "password": "z",
    "nested": {"openai_key": "k", "list": [{"auth_token": "t"}]},
    "wandb_project": "0123456789abcdef0123456789abcdef01234567",
    "note": "use hf_AbCdEfGhIjKlMnOpQrSt to load",
    "url": "https://user:hunter2@example.org/data",
    "mlflow_tracking_uri": "https://me:pw@host",
    "other": "sk-abcdefghijklmnopqrstuvwx and ghp_abcdefghijklmnopqrst",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
}
PLAIN = {
    "special_tokens": {"pad_token": "<|fim_pad|>"},
    "tokens": ["<think>"],
    "revision_of_model": "0123456789abcdef0123456789abcdef01234567",
    "hf_use_auth_token": True,
    "learning_rate": 1e-5,
    "tokenizer_config": "Qwen/Qwen2.5-32B-Instruct",
    "datasets": [{"path": "simplescaling/s1K", "field_human": "question"}],
    "output_dir": "outputs/task-token-risk-free/model",
    "max_tokens_key_norm": 3,
    "s1": {"evaluate": {"gen_kwargs": {"max_tokens_thinking": "auto"}}},
}


def test_secrets_are_struck_out_wherever_they_are():
    text = json.dumps(record.without_secrets(SECRETS))
    for secret in (
        *("plain words", "hunter2", "hf_AbCd", "sk-abc", "ghp_abc", "eyJ", "0123456789abcdef"),
        *('"k"', '"t"', '"x"', '"y"', '"z"', "me:pw"),
    ):
        assert secret not in text
    assert text.count(STRUCK_OUT) >= len(SECRETS)
    assert record.without_secrets(SECRETS)["url"] == f"https://{STRUCK_OUT}@example.org/data"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://host/data?x=1&X-Amz-Signature=abcdef&y=2", "abcdef"),
        ("https://host/data?token=abcdef", "abcdef"),
        ("https://abcdef@host/data", "abcdef"),
        ("AIza" + "b" * 30, "bbb"),
        ("ya29.abcdef-ghijkl", "abcdef"),
    ],
)
def test_secrets_in_addresses_are_struck_out(text, secret):
    found = record.without_secrets({"path": text})["path"]
    assert secret not in found and STRUCK_OUT in found
    assert "x=1" not in text or found.endswith("&y=2")


def test_the_rest_stays_as_it_is():
    assert record.without_secrets(PLAIN) == PLAIN


def test_what_has_changed_since_the_run_is_named():
    before = {
        "config": {"learning_rate": 1e-5, "resume_from_checkpoint": None, "seed": 1},
        "data": {"fingerprint": "a"},
        "hardware": {"world_size": 8},
    }
    now = {
        "config": {"learning_rate": 2e-5, "resume_from_checkpoint": "c-3", "seed": 1, "x": 2},
        "data": {"fingerprint": "b"},
        "hardware": {"world_size": 16},
    }
    assert record.changes(before, now) == [
        "`learning_rate` was 1e-05 and is 2e-05",
        "`x` was None and is 2",
        "the data, or how they are tokenised, have changed",
        "it ran on 8 processes and runs on 16",
    ]
    assert record.changes(before, before) == []
    assert record.changes({}, now) == []


@pytest.mark.parametrize("text", [None, "", '{"finished": fal'])
def test_finishing_what_is_not_there_or_torn_does_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / record.FILE_NAME).write_text(text)
    record.finish(tmp_path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if text is None else [text])


def test_a_record_is_finished_in_place(tmp_path):
    record.write(tmp_path / record.FILE_NAME, {"finished": False, "steps": 3})
    record.finish(tmp_path)
    found = json.loads((tmp_path / record.FILE_NAME).read_text())
    assert found["finished"] is True and found["steps"] == 3 and found["ended"]
    assert len(list(tmp_path.iterdir())) == 1


class Kept(record.Recorder):
    """Keeps what the file held at every step, and stops the run at step 5."""

    seen: dict

    def on_step_end(self, args, state, control, **kwargs):
        self.seen[state.global_step] = json.loads(self.path.read_text())
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_a_run_that_is_stopped_leaves_a_record(tmp_path):
    cfg = {"base_model": "m", "output_dir": str(tmp_path), "seed": 3, "hub_token": "secret-word"}
    cfg["dataset_prepared_path"] = str(tmp_path / "s1-abc")
    kept = []

    def more(trainer, watching):
        kept.append(Kept(DictDefault(cfg), trainer, watching, None))
        kept[0].seen = {}
        return kept[0]

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, gpus=2, dollars=1.0, more=more)
    seen = kept[0].seen
    # written at the start, and with every log, which is every second step
    assert [seen[n]["steps"] for n in range(1, 6)] == [0, 0, 2, 2, 4]
    left = json.loads((tmp_path / record.FILE_NAME).read_text())
    assert left == seen[5] and left["finished"] is False and left["of_steps"] == 6
    assert left["losses"]["loss_answer"] == 5.0 and left["losses"]["logged_at_step"] == 4
    assert left["tokens"] > 0 and left["dollars"] == pytest.approx(left["gpu_hours"], abs=1e-4)
    assert left["hardware"]["device"] == "cpu" and left["versions"]["torch"] and left["seed"] == 3
    assert left["data"]["fingerprint"] == "abc" and left["resumed_from"] is None
    assert "secret-word" not in (tmp_path / record.FILE_NAME).read_text()


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_said_and_for_a_finished_run_refused(tmp_path, finished, capfd):
    settings = {"base_model": "m", "output_dir": str(tmp_path), "learning_rate": 1.0}
    settings["dataset_prepared_path"] = str(tmp_path / "s1-abc")

    def more(rate):
        cfg = DictDefault({**settings, "learning_rate": rate})
        return lambda trainer, watching: record.Recorder(cfg, trainer, watching, None)

    train(tmp_path, more=more(1.0))
    if finished:
        record.finish(tmp_path)
    settings["resume_from_checkpoint"] = "checkpoint-6"
    train(tmp_path, more=more(1.0))  # the same goes on
    if finished:
        record.finish(tmp_path)
        with pytest.raises(ValueError, match=r"finished run .*learning_rate` was 1.0 and is 2.0"):
            train(tmp_path, more=more(2.0))
    else:
        train(tmp_path, more=more(2.0))
        assert "though `learning_rate` was 1.0 and is 2.0" in capfd.readouterr().err
