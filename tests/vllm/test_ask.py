"""`s1 ask --engine vllm`, the real command: one pass of an engine in its own process."""

import re

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.commands import asked
from s1_plugin.console import printable
from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing import board
from s1_plugin.forcing.vllm_request import PROCESSOR
from s1_plugin.formats import S1
from tests.conftest import ROOT
from tests.e2e.commands import run
from tests.forcing.oracle import multi_round

pytestmark = pytest.mark.e2e


#: The command with another processor than a user can have: it decides as on a GPU.
LAUNCH = """
import sys
from s1_plugin.cli import main
from s1_plugin.forcing import vllm_request

vllm_request.PROCESSOR = sys.argv.pop(1)
main()
"""


def test_tokens_are_held_back_until_the_board_has_told():
    assert asked._BEHIND == board._LAG + 1


def test_what_is_forced_stands_out_where_it_is(small, nano_tokenizer, tmp_path, processor):
    folder, model = small
    encoder, start = TextEncoder(nano_tokenizer), S1.think_start
    command = ["s1"] if processor == PROCESSOR else ["python", "-c", LAUNCH, processor]
    done = run(
        *command, "ask", str(folder), "1+2+3", "--engine", "vllm", "--cap", "100", "--waits", "2",
        "--max-tokens", "160", cwd=tmp_path, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    want = multi_round(
        model,
        nano_tokenizer,
        encoder.encode(encoder.prompt_pieces("1+2+3", S1)) + encoder.scaffold_ids(start),
        cap=100,
        waits=2,
        wait_text="Wait",
        max_new_tokens=160,
        vocabulary=len(nano_tokenizer),
    )
    assert want.waits and want.ended == "natural"  # or this test would show little
    text = printable(start + nano_tokenizer.decode(want.tokens))
    assert re.sub(r"\[\[|\]\]", "", done.stdout) == text + "\n"
    forced = re.findall(r"\[\[(.*?)\]\]", done.stdout, re.DOTALL)
    assert forced == [start, *["Wait"] * want.waits, S1.answer_start]
    waits = f"{want.waits} Wait{'s' * (want.waits > 1)}"
    assert f"thinking: {want.thinking_tokens} tokens, {waits}, ended by itself" in done.stderr
