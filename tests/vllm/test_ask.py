"""`s1 ask --engine vllm`, the real command: one pass of an engine in its own process."""

import re

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.console import printable
from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import S1
from tests.e2e.commands import run
from tests.forcing.oracle import multi_round

pytestmark = pytest.mark.e2e


def test_what_is_forced_stands_out_where_it_is(small, nano_tokenizer, tmp_path):
    folder, model = small
    encoder, start = TextEncoder(nano_tokenizer), S1.think_start
    done = run(
        "s1", "ask", str(folder), "1+2+3", "--engine", "vllm", "--cap", "100", "--waits", "2",
        "--max-tokens", "160", cwd=tmp_path,
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
