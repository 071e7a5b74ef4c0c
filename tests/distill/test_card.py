import asyncio

import pytest

from s1_plugin.distill import card
from s1_plugin.distill.ledger import Ledger
from s1_plugin.training.card import signed


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


def test_a_card_of_another_command_stays(tmp_path, capsys):
    """`s1 curate` signs its draft in the same way; ours is written anew."""

    async def written():
        ledger = Ledger(tmp_path / "traces.jsonl")
        path = card.write(ledger, "q.jsonl", ("m", "h"))
        await ledger.close()
        return path.name

    there, draft = tmp_path / "README.md", tmp_path / "README.draft.md"
    assert asyncio.run(written()) == "README.md" == asyncio.run(written())
    assert not draft.exists() and not capsys.readouterr().err
    curated = signed("# s1K-mine\n\nHow it was made: `s1 curate`\n")
    there.write_text(curated)
    assert asyncio.run(written()) == "README.draft.md"
    assert there.read_text() == curated and "`s1 distill`" in draft.read_text()
    assert f"{there} tells of other files here and stays" in capsys.readouterr().err
    there.write_text("mine")
    assert asyncio.run(written()) == "README.draft.md" and there.read_text() == "mine"
