"""What of the engine can be said without vLLM; it runs itself in tests/e2e."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from s1_plugin.distill.offline import Engine, interrupts_blocked, whole
from s1_plugin.forcing.http import Unavailable
from s1_plugin.formats import THINK_TAGS


def output(finish, *, parts=1):
    """Of vLLM's `RequestOutput` what is read."""
    part = SimpleNamespace(text="t</think>a", finish_reason=finish, token_ids=[1, 2, 3])
    return SimpleNamespace(outputs=[part] * parts, prompt_token_ids=[1, 2])


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_reply_that_ended_is_final(finish):
    reply = whole(output(finish), THINK_TAGS, "m")
    assert (reply.thinking, reply.answer, reply.finish) == ("t", "a", finish)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.served_as) == (2, 3, "m")


@pytest.mark.parametrize(
    "last",
    [*map(output, ["abort", "error", "repetition", None]), output("stop", parts=0), None],
)
def test_a_reply_that_was_ended_is_asked_for_again(last):
    with pytest.raises(Unavailable, match="ended the request early"):
        whole(last, THINK_TAGS, "m")


def test_ctrl_c_does_not_reach_the_engine():
    """A child started within goes on; one started after does not."""
    code = "print(1, flush=True); input(); print(2)"
    ends = []
    for blocked in (True, False):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if blocked:
            with interrupts_blocked():
                child = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
        else:
            child = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        ends.append(child.communicate("\n")[0])
    assert ends == ["2\n", ""]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def model(folder, weights=b"w" * 100_000, **sampling):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, **sampling}))
    return str(folder)


def said(path, **arguments):
    return Engine(path, THINK_TAGS, arguments).provenance()


def test_provenance_tells_models_and_arguments_apart(tmp_path):
    path = model(tmp_path / "m", temperature=0.6, top_k=20)
    first = said(path, tensor_parallel_size=2)
    assert first["defaults"] == {"temperature": 0.6, "top_k": 20} and "engine" not in first
    assert said(path) == first == said(model(tmp_path / "copy", temperature=0.6, top_k=20))
    assert said(path, generation_config="vllm", hf_token="secret") == {
        "model": first["model"], "engine": {"generation_config": "vllm"},
    }  # fmt: skip
    assert said(path, dtype="float16")["engine"] == {"dtype": "float16"}
    assert said(path, generation_config=model(tmp_path / "n", top_p=0.9))["defaults"] == {
        "top_p": 0.9
    }
    retrained = b"w" * 50_000 + b"v" * 50_000  # of the same size
    assert said(model(tmp_path / "m", retrained))["model"] != first["model"]


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"vllm:.*none: cannot be read.*name a folder"):
        said(str(tmp_path / "none"))
