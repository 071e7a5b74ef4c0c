import asyncio

import pytest

from s1_plugin.distill import card
from s1_plugin.distill.ledger import Ledger


@pytest.mark.parametrize("name", ["a|b", "a`b``c", "a\nb", "`"])
def test_no_name_breaks_the_table(tmp_path, name):
    """By the rules of https://github.github.com/gfm/#tables-extension- for `|` and code spans."""
    row = {
        "key": "k",
        "status": "ok",
        "teacher": name,
        "host": "h",
        "parameters": f'{{"a": "{name}"}}',
    }

    async def rendered():
        ledger = Ledger(tmp_path / "traces.jsonl")
        await ledger.add(row)
        found = card.render(ledger, "q.jsonl", (name, "h"))
        await ledger.close()
        return found

    lines = [line for line in asyncio.run(rendered()).split("\n") if line.startswith("|")]
    assert len(lines) == 3
    cells = {line.replace("\\|", "").count("|") for line in lines}
    assert len(cells) == 1
    shown = name.replace("\n", " ").replace("|", "\\|")
    fence = "`" * {"a`b``c": 3, "`": 2}.get(name, 1)
    pad = " " * ("`" in name)
    assert lines[2].startswith(f"| {fence}{pad}{shown}{pad}{fence} | `h` |")
