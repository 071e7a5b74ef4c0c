"""What of the engine can be said without vLLM; it runs itself in tests/e2e."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from s1_plugin.data.offline import interrupts_blocked, whole
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
