"""`s1 ask` with a real tiny model, and with a local server."""

import json
import re
import shutil

import pytest
import torch
from click.testing import CliRunner

from s1_plugin.commands.ask import ask
from s1_plugin.commands.live import Live
from s1_plugin.console import printable
from s1_plugin.forcing.transformers import NEUTRAL
from s1_plugin.formats import S1
from tests.forcing.oracle import multi_round
from tests.forcing.test_openai import SECRET, encoder, hash_server, job, naive  # noqa: F401

QUESTION = "Last digit of the sum: a7 b3"


@pytest.fixture(scope="module")
def model(nano_base, tmp_path_factory):
    """A folder with the nano model, its weights random."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("random")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(nano_base)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(nano_base).save_pretrained(folder)
    return folder


def run(*arguments, code=0, **how):
    result = CliRunner().invoke(ask, [str(a) for a in arguments], **how)
    assert result.exit_code == code, result.output
    return result


def test_a_local_model_thinks_within_its_cap_and_answers(model, encoder):  # noqa: F811
    from transformers import AutoModelForCausalLM

    result = run(model, QUESTION, "--cap", 9, "--waits", 2, "--max-tokens", 60)
    want = multi_round(
        AutoModelForCausalLM.from_pretrained(model),
        encoder.tokenizer,
        encoder.encode(encoder.prompt_pieces(QUESTION, S1)) + encoder.scaffold_ids(S1.think_start),
        cap=9,
        waits=2,
        wait_text="Wait",
        max_new_tokens=60,
        vocabulary=len(encoder.tokenizer),
    )
    text = S1.think_start + encoder.tokenizer.decode(want.tokens)
    assert re.sub(r"\[\[|\]\]", "", result.stdout) == printable(text) + "\n"
    assert "[[<|im_start|>think]]" in result.stdout
    assert f"thinking: {want.thinking_tokens} tokens" in result.stderr
    drew = want.tokens.index(encoder.added["<|im_start|>"]) + 1
    drew += len(encoder.text_ids("answer\nFinal Answer:"))
    assert f"answer: {len(want.tokens) - drew} tokens" in result.stderr
    # The same question through a pipe; another seed draws something else.
    assert run(model, "--cap", 9, "--max-tokens", 60, input=QUESTION + "\n").stdout
    drawn = [
        run(model, QUESTION, "--cap", 9, "--max-tokens", 60, "--temperature", 1, "--seed", n).stdout
        for n in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_server_by_its_address(encoder, nano_base, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with hash_server(encoder) as server:
        address = server.url.removesuffix("/completions")
        how = ("--tokenizer", nano_base, "--cap", 60, "--waits", 1, "--max-tokens", 120)
        result = run(address, "1+2", *how)
        want, state = naive(server.model, encoder, job(encoder, "1+2", 60, 1, 120))
        server.faults.extend([("none",), ("status", 400, {}, f"no, {SECRET} \x1b[2J")])
        failed = run(address, "1+2", *how, code=1)
    text = "<|im_start|>think" + encoder.tokenizer.decode(want)
    assert re.sub(r"\[\[|\]\]", "", result.stdout) == text + "\n"
    assert result.stdout.count("[[") >= 3 and "[[Wait]]" in result.stdout
    assert f"thinking: {state.thinking_tokens} tokens, 1 Wait," in result.stderr
    assert "HTTP 400: no, *** \\x1b[2J" in failed.stderr
    assert SECRET not in failed.output and "\x1b" not in failed.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/model", "hi"], "a folder, a hub id or the http address"),
        (["http://127.0.0.1:9/v1", "hi"], "cannot reach http://127.0.0.1:9/v1/completions"),
        (["http://127.0.0.1:9/v1", "hi", "--engine", "vllm"], "MODEL is a server's address"),
        (["MODEL", "hi", "--model-name", "x"], "MODEL is no address"),
        (["http://me:secret@127.0.0.1:9/v1", "hi"], "OPENAI_API_KEY"),
        (["MODEL", "hi", "--format", "s2"], "known formats"),
        (["MODEL", "hi", "--cap", "40", "--max-tokens", "20"], "no room for an answer"),
        (["MODEL", " "], "question is empty"),
        (["MODEL", "hi", "--cap", "many"], "many"),
    ],
)
def test_what_cannot_work_is_said(model, arguments, message):
    arguments = [str(model) if a == "MODEL" else a for a in arguments]
    result = CliRunner().invoke(ask, arguments)
    assert result.exit_code in (1, 2) and message in result.output + result.stderr
    assert "secret" not in result.output + result.stderr and "Traceback" not in result.output


def shown(encoder, pieces, colour=False):  # noqa: F811
    out = []
    live = Live(lambda ids: encoder.tokenizer.decode(ids), out.append, colour)
    for text, forced in pieces:
        for token in encoder.text_ids(text):
            live.token(token, forced)
    live.end()
    return out


def test_characters_come_whole_and_as_soon_as_they_are(encoder):  # noqa: F811
    out = shown(encoder, [("aé漢🙂\n", False)])
    assert out == ["a", "é", "漢", "🙂", "\n"]
    broken = encoder.text_ids("漢")[:2]
    live = Live(lambda ids: encoder.tokenizer.decode(ids), out.append, False)
    for token in broken:
        live.token(token, False)
    live.end()
    assert "\ufffd" in out[-1]


def test_the_terminal_is_not_steered(encoder):  # noqa: F811
    text = "".join(shown(encoder, [("\x1b]0;owned\x07\x1b[2J\r\x9b1m\u202eabc\ttab\n", False)]))
    assert text == "\\x1b]0;owned\\x07\\x1b[2J\\r\\x9b1m\\u202eabc\ttab\n"


def test_forced_text_stands_out(encoder):  # noqa: F811
    pieces = [("a", False), ("Wait", True), ("b\n", False), ("\n.", True)]
    assert "".join(shown(encoder, pieces)) == "a[[Wait]]b\n[[\n.]]"
    assert "".join(shown(encoder, pieces, colour=True)) == (
        "a\x1b[7mWait\x1b[0mb\n\n\x1b[7m.\x1b[0m"
    )


def test_sampling_defaults_of_the_model_have_no_part(model, tmp_path):
    how = (QUESTION, "--cap", 9, "--max-tokens", 60, "--temperature", 1)
    shutil.copytree(model, tmp_path / "other")
    defaults = {
        "do_sample": True,
        "temperature": 0.2,
        "top_p": 0.3,
        "top_k": 2,
        "min_p": 0.5,
        "top_h": 0.3,
        "typical_p": 0.2,
        "epsilon_cutoff": 0.1,
        "eta_cutoff": 0.1,
        "repetition_penalty": 1.5,
    }
    assert set(defaults) == {*NEUTRAL, "do_sample"}
    path = tmp_path / "other" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **defaults}))
    assert run(tmp_path / "other", *how).stdout == run(model, *how).stdout
    how = how[:-2]
    assert run(tmp_path / "other", *how).stdout == run(model, *how).stdout


def test_a_server_does_not_choose_the_tokenizer(encoder, nano_base):  # noqa: F811
    """The name that it gives its model may be that of any folder here."""
    with hash_server(encoder) as server:
        server.name = str(nano_base)
        address = server.url.removesuffix("/completions")
        how = ("1+2", "--cap", 60, "--max-tokens", 120)
        refused = run(address, *how, code=1)
        assert f"{nano_base}" in refused.stderr and "set --tokenizer" in refused.stderr
        assert "thinking:" in run(address, *how, "--model-name", nano_base).stderr
        assert "thinking:" in run(address, *how, "--tokenizer", nano_base).stderr
