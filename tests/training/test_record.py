import json

import pytest

from s1_plugin.training import record
from s1_plugin.training.record import STRUCK_OUT

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
