import asyncio
import gc
import json
import os

import pytest

from s1_plugin.distill.ledger import Contents, Ledger, LedgerError, along


def row(key, status="ok", **more):
    names = {"teacher": "t", "host": "h", "parameters": "{}"}
    return {
        "key": key,
        "status": status,
        "prompt_tokens": 2,
        "completion_tokens": 5,
        **names,
        **more,
    }


def written(path, *rows):
    async def write():
        ledger = Ledger(path)
        await asyncio.gather(*map(ledger.add, rows))
        await ledger.close()

    asyncio.run(write())


def test_rows_are_there_again(tmp_path):
    path = tmp_path / "new" / "traces.jsonl"
    written(path, *(row(f"k{n}", text="é\u2028\n") for n in range(50)))
    written(path, row("more", status="empty"))
    lines = path.read_bytes().split(b"\n")
    assert (
        lines.pop() == b""
        and [json.loads(line)["text"] for line in lines[:50]] == ["é\u2028\n"] * 50
    )
    contents = Contents(path)
    assert contents.done.keys() == {"more", *(f"k{n}" for n in range(50))}
    assert contents.tally["t", "h", "{}", "ok"] == {
        "rows": 50, "prompt_tokens": 100, "completion_tokens": 250,
    }  # fmt: skip


def test_a_row_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    path, synced, fsync = tmp_path / "traces.jsonl", [], os.fsync

    def spy(handle):
        fsync(handle)
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", spy)

    async def add():
        ledger = Ledger(path)
        for name in ("a", "b"):
            await ledger.add(row(name))
            assert synced[-1] == (path.stat().st_ino, path.stat().st_size)
            assert name in ledger.contents.done
        await ledger.close()

    asyncio.run(add())
    assert synced[0][0] == tmp_path.stat().st_ino  # the new file's name, too


def test_half_a_character_of_a_server_loses_no_row(tmp_path):
    path = tmp_path / "traces.jsonl"
    written(path, row("a", reason="no \ud800"), row("b"))
    assert Contents(path).done.keys() == {"a", "b"}
    assert json.loads(path.read_text(encoding="utf-8").split("\n")[0])["reason"] == "no ?"


@pytest.mark.parametrize("cut", [1, 20, 90])
def test_a_torn_row_goes_and_only_that(tmp_path, capsys, cut):
    path = tmp_path / "traces.jsonl"
    written(path, row("a"), row("b"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:cut])
    assert Contents(path).done.keys() == {"a", "b"}  # a dry run leaves it alone
    written(path, row("c"))
    assert path.read_bytes().startswith(whole) and Contents(path).done.keys() == {"a", "b", "c"}
    assert f"removed the last {cut} bytes" in capsys.readouterr().err


def test_a_torn_row_longer_than_a_block(tmp_path):
    path = tmp_path / "traces.jsonl"
    written(path, row("a"))
    with path.open("ab") as file:
        file.write(b'{"key": "' + b"x" * 200_000)
    written(path, row("b"))
    assert Contents(path).done.keys() == {"a", "b"}


def test_a_whole_row_without_its_end_is_kept(tmp_path):
    path = tmp_path / "traces.jsonl"
    written(path, row("a"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    written(path, row("b"))
    assert Contents(path).done.keys() == {"a", "b"}


def test_a_broken_line_in_the_middle_stops(tmp_path):
    path = tmp_path / "traces.jsonl"
    written(path, row("a"))
    path.write_bytes(path.read_bytes() + b'{"question": "mine"}\n')
    with pytest.raises(LedgerError, match=r"line 2.*remove the line"):
        Ledger(path)


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "traces.jsonl"

    async def both():
        first = Ledger(path)
        with pytest.raises(LedgerError, match="another `s1 distill`"):
            Ledger(path)
        await first.close()
        await Ledger(path).close()

    asyncio.run(both())


def test_a_full_disk_stops_and_leaves_nothing_half_counted(tmp_path):
    """/dev/full takes no byte, as a full disk does."""
    path = tmp_path / "traces.jsonl"

    async def fill():
        ledger = Ledger(path)
        os.dup2(os.open("/dev/full", os.O_WRONLY), ledger._file)
        for _ in range(2):
            with pytest.raises(LedgerError, match=r"No space left.*same command again"):
                await ledger.add(row("a"))
        assert not ledger.contents.done
        await ledger.close()

    asyncio.run(fill())


def test_a_full_disk_is_said_once(tmp_path):
    """Not by asyncio too, for each row that was waiting when the run stopped."""
    complaints = []

    async def fill():
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        ledger = Ledger(tmp_path / "traces.jsonl")
        os.dup2(os.open("/dev/full", os.O_WRONLY), ledger._file)
        tasks = [asyncio.create_task(ledger.add(row(f"k{n}"))) for n in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del tasks
        while not ledger.broken:  # another thread writes
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await ledger.close()
        gc.collect()

    asyncio.run(fill())
    gc.collect()
    assert not complaints


def test_what_goes_along_is_told_apart(tmp_path):
    path = tmp_path / "traces.jsonl"
    columns = {"solution": "s", "answer": "5", "metadata": "{}"}
    written(path, row("a", **columns, id="1", question="q"), row("b"))
    done = Contents(path).done
    assert done["a"] == along({**columns, "id": "2"}) and done["b"] == along({})
    assert along({**columns, "metadata": "other"}) == done["a"]
    for name in ("answer", "solution"):
        assert along({**columns, name: "other"}) != done["a"]
