"""`s1 ask` as a person sees it: the real command on a terminal."""

import os
import pty
import signal
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def slow(nano_base, tmp_path_factory):
    """A random model that needs a minute for an answer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("slow")
    config = AutoConfig.from_pretrained(
        nano_base, hidden_size=512, num_hidden_layers=16, max_position_embeddings=8192
    )
    config.layer_types = ["full_attention"] * 16
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(nano_base).save_pretrained(folder)
    return folder


def test_thinking_streams_in_colour_and_ctrl_c_ends_it(slow):
    command = [str(Path(sys.executable).with_name("s1")), "ask", str(slow), "1+2"]
    command += ["--waits", "99", "--temperature", "1"]
    child, terminal = pty.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
        os.execv(command[0], command)
    seen = b""
    try:
        while len(seen.partition(b"think\x1b[0m")[2]) < 20:  # it thinks, and we see it
            seen += os.read(terminal, 1024)
        os.write(terminal, b"\x03")
        while chunk := os.read(terminal, 1024):
            seen += chunk
    except OSError:  # the terminal is closed: the command has ended
        pass
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    text = seen.decode(errors="replace")
    assert "\x1b[7m<|im_start|>\x1b[0m\x1b[7mthink\x1b[0m" in text
    assert text.rstrip().endswith("Aborted!") and "Traceback" not in text
    assert os.waitstatus_to_exitcode(status) == 1
