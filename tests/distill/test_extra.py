import pytest

from s1_plugin.distill.extra import speaks_of_secrets
from s1_plugin.distill.teachers import Server

KEY = "zz-0123456789abcdef"  # of no form that is known


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"model": "other"}, "'model', which --teacher says: use that; leave it out of --extra"),
        ({"messages": []}, "QUESTIONS"),
        ({"prompt": "x"}, "QUESTIONS"),
        ({"max_tokens": 5}, "--max-tokens"),
        ({"max_completion_tokens": 5}, "--max-tokens"),
        ({"Temperature": 0}, "--temperature"),
        ({"top_p": 1}, "--top-p"),
        ({"seed": 1}, "--seed"),
        ({"n": 2}, "--samples"),
        ({"stream": False}, "'stream', which is always the same; leave it out of --extra"),
        ({"stream_options": {}}, "always the same"),
        ({"api_key": "x"}, "--key-env"),
        ({"a": {"b": [1, KEY]}}, "holds an API key"),
        ({"a": f"Bearer {KEY}"}, "holds an API key"),
        ({"a": {KEY: 1}}, "holds an API key"),
    ],
)
def test_extra_replaces_nothing_that_rows_tell(monkeypatch, extra, said):
    """KEY is OPENAI_API_KEY's, which this host is not sent: it is a key all the same."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ValueError, match=said) as error:
        Server("m", "http://localhost/v1", extra=extra)
    assert "--extra" in str(error.value) and KEY not in str(error.value)


def test_extra_takes_all_else(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "high")  # a word: equal to it, not within it
    extra = {"reasoning_effort": "higher", "top_k": 5, "chat_template_kwargs": {"model": "a"}}
    assert Server("m", "http://localhost/v1", extra=extra).extra == extra


LONG = "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6"


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ({"provider": {"key": LONG}}, "'provider.key'"),
        ({"apikey": "x1"}, "'apikey'"),
        ({"x": {"api_key": "x1"}}, "'x.api_key'"),
        ({"a": [{"X-Api-Key": "x1"}]}, "'a.X-Api-Key'"),
        ({"accessToken": LONG}, "'accessToken'"),
        ({"token": LONG}, "'token'"),
        ({"secret": LONG}, "'secret'"),
        ({"password": "x1"}, "'password'"),
        ({"aws": {"credentials": {"id": LONG}}}, "'aws.credentials'"),
        ({"extra_query": {"key": LONG}}, "'extra_query.key'"),
        ({"provider": {"key": "sk-or-v1-0a1b2c3d4e5f"}}, "an API key"),
        ({"token": "hf_abcdefghijklmnop"}, "an API key"),
        ({"user": "sk-proj-abcdefgh"}, "an API key"),
        ({"a": [["AIzaSyA0123456789"]]}, "an API key"),
        ({"a": {"sk-proj-abcdefgh": 1}}, "an API key"),
        ({"a": "Bearer x1"}, "an API key"),
    ],
)
def test_secrets_of_any_name_and_depth_are_refused(extra, where):
    with pytest.raises(ValueError, match="--key-env") as error:
        Server("m", "http://localhost/v1", extra=extra)
    said = str(error.value)
    assert where in said
    assert not any(text in said for text in (LONG, "x1", "sk-", "hf_", "AIza"))


@pytest.mark.parametrize(
    "name",
    [
        *("max_tokens", "budget_tokens", "stop_token_ids", "include_reasoning", "author", "monkey"),
        *("skip_special_tokens", "min_tokens", "keyboard", "tokenizer", "thinking_token_budget"),
    ],
)
def test_tokens_that_are_counted_are_no_secret(name):
    assert not speaks_of_secrets(name)
    extra = {"thinking": {name: "some", "user_key": 5}}  # a number is no secret
    assert Server("m", "http://localhost/v1", extra=extra).extra == extra
