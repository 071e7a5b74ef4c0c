"""The dataset type on small data: what is stopped at, what is skipped, what is counted."""

import json

import datasets
import pytest

from s1_plugin import counts
from s1_plugin.config import S1Config
from s1_plugin.traces import prepare


class Cfg(dict):
    """Like axolotl's config: absent keys are None."""

    __getattr__ = dict.get
    __setattr__ = dict.__setitem__


ROW = {"question": "1+2", "thinking_trajectories": ["3"], "attempt": "3"}


@pytest.fixture
def tokenizer(nano_base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(nano_base)


@pytest.fixture
def run(tokenizer, tmp_path):
    def run(rows, settings=None, ds=None, process_count=None, **cfg):
        path = tmp_path / "traces.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = datasets.Dataset.from_list(rows)
        cfg = Cfg(
            {
                "sequence_len": 256,
                "base_model": "nano",
                "dataset_prepared_path": str(tmp_path / "prepared"),
                **cfg,
            }
        )
        return prepare(
            data,
            tokenizer=tokenizer,
            settings=settings or S1Config(),
            cfg=cfg,
            ds_cfg=Cfg({"path": str(path), **(ds or {})}),
            process_count=process_count,
        )

    return run


def test_rows_become_ids_masks_and_labels(run, tokenizer):
    data = run([ROW] * 3)
    assert set(data.column_names) == {"input_ids", "attention_mask", "labels"}
    row = data[0]
    assert len(row["input_ids"]) == len(row["labels"]) == sum(row["attention_mask"])
    learned = [i for i in row["labels"] if i != -100]
    assert tokenizer.decode(learned) == (
        "<|im_start|>think\n3\n<|im_start|>answer\nAnswer: 3<|im_end|>\n"
    )


def test_columns_have_the_types_of_axolotls_own_data_and_mix_with_them(run):
    own = datasets.Dataset.from_list([ROW] * 2).map(
        lambda row: {"input_ids": [1], "attention_mask": [1], "labels": [-100]},
        remove_columns=list(ROW),
    )
    assert run([ROW]).features == own.features
    assert len(datasets.concatenate_datasets([run([ROW]), own])) == 3


def test_workers_give_the_rows_of_one_process_in_their_order(run):
    rows = [{**ROW, "attempt": str(number)} for number in range(2001)]
    assert run(rows, process_count=2)[:] == run(rows)[:]


def test_bad_rows_stop_the_run_with_file_row_field_and_remedy(run):
    rows = [ROW, {**ROW, "attempt": ""}, ROW, {**ROW, "question": None}]
    with pytest.raises(ValueError) as caught:
        run(rows)
    text = str(caught.value)
    assert "traces.jsonl: 2 of 4 rows" in text
    assert "traces.jsonl, line 2: field 'attempt' is empty" in text
    assert "traces.jsonl, line 4: field 'question' is missing" in text
    assert "bad_rows: skip" in text


def test_bad_rows_are_skipped_and_counted_if_asked(run, capsys, tmp_path):
    data = run([ROW, {**ROW, "attempt": ""}, ROW], S1Config(bad_rows="skip"))
    assert len(data) == 2
    said = capsys.readouterr().err
    assert "line 2 skipped" in said and "1 bad rows SKIPPED" in said
    kept = next(iter(counts.load(tmp_path / "prepared").values()))
    assert (kept.rows, kept.bad, kept.kept) == (3, 1, 2)


def test_data_of_nothing_but_bad_rows_always_stop(run):
    with pytest.raises(ValueError, match="2 of 2"):
        run([{**ROW, "attempt": ""}] * 2, S1Config(bad_rows="skip"))


LAYOUTS = {
    "s1K": ROW,
    "s1K-1.1": {
        **dict.fromkeys(("gemini_thinking_trajectory", "gemini_attempt", "solution"), "x"),
        **{"question": "1+2", "deepseek_thinking_trajectory": "3", "deepseek_attempt": "3"},
    },
    "LIMO": {"question": "1+2", "solution": "3", "answer": 3},
    "conversations": {  # OpenThoughts
        "conversations": [
            {"from": "human", "value": "1+2"},
            {"from": "gpt", "value": "<think>\n3\n</think>\n\n3"},
        ]
    },
    "messages": {
        "messages": [
            {"role": "user", "content": "1+2"},
            {"role": "assistant", "content": "<think>3</think>3"},
        ]
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_published_layout_becomes_the_same_row(run, capsys, name):
    """Through Arrow, as axolotl hands it over: a column of digits is one of integers there."""
    rows = run([LAYOUTS[name]] * 2)
    assert rows[0] == run([ROW])[0]
    assert f"2 rows read as {name}, 2 to train on" in capsys.readouterr().err


def test_system_messages_are_counted_and_said(run, tokenizer, capsys, tmp_path):
    def chat(*system):
        turns = [{"role": "system", "content": text} for text in system]
        turns += [{"role": "user", "content": "1+2"}]
        return {"messages": [*turns, {"role": "assistant", "content": "<think>3</think>3"}]}

    data = run([chat("Be brief."), chat(" "), chat(), chat("One.", "Two.")])
    assert len({tuple(row["input_ids"]) for row in data}) == 1
    assert "Be brief" not in tokenizer.decode(data[0]["input_ids"])
    assert "2 system messages NOT USED" in capsys.readouterr().err
    assert next(iter(counts.load(tmp_path / "prepared").values())).system == 2


def test_a_byte_that_is_no_text_is_named_with_its_line(tokenizer, tmp_path):
    path = tmp_path / "traces.jsonl"
    good = json.dumps(ROW).encode()
    path.write_bytes(good + b"\n\n" + good.replace(b"1+2", b"1\xff2") + b"\n")
    data = datasets.load_dataset("json", data_files=str(path), split="train")
    with pytest.raises(ValueError, match=r"traces.jsonl, line 3: byte 16 is not UTF-8"):
        prepare(
            data,
            tokenizer=tokenizer,
            settings=S1Config(),
            cfg=Cfg(sequence_len=256),
            ds_cfg=Cfg(path=str(path)),
        )


LONG = {**ROW, "thinking_trajectories": ["1 " * 400]}


@pytest.mark.parametrize("strategy", [None, "raise"])
def test_over_long_rows_stop_with_count_lengths_and_what_to_set(run, strategy):
    with pytest.raises(ValueError) as caught:
        run([ROW, LONG, LONG], excess_length_strategy=strategy)
    text = str(caught.value)
    assert "2 of 3 rows are longer than sequence_len 256" in text
    assert "traces.jsonl, line 3)" in text and "`sequence_len: " in text


def test_the_length_it_names_is_enough(run):
    with pytest.raises(ValueError) as caught:
        run([ROW, LONG])
    needed = int(str(caught.value).split("`sequence_len: ")[1].split("`")[0])
    assert len(run([ROW, LONG], sequence_len=needed)) == 2


@pytest.mark.parametrize("strategy", ["drop", "truncate"])
def test_axolotls_strategies_are_followed_and_counted(run, capsys, tmp_path, strategy):
    data = run([ROW, LONG], excess_length_strategy=strategy)
    assert len(data) == 2  # axolotl itself drops or cuts what is handed over
    said = capsys.readouterr().err
    assert f"1 rows over 256 tokens {strategy.upper()}" in said.replace(
        "TRUNCATED", "TRUNCATE"
    ).replace("DROPPED", "DROP")
    assert "1 answers lost" in said
    kept = next(iter(counts.load(tmp_path / "prepared").values()))
    short = len(run([ROW])[0]["input_ids"])
    assert kept.kept == (1 if strategy == "drop" else 2)
    assert kept.tokens == (short if strategy == "drop" else short + 256)


def test_a_prompt_that_fills_the_length_leaves_nothing_to_learn(run, tmp_path):
    run([ROW, {**ROW, "question": "1+" * 300}], excess_length_strategy="truncate")
    assert next(iter(counts.load(tmp_path / "prepared").values())).kept == 1


def test_two_data_sets_of_one_path_keep_their_counts_apart(run, tmp_path):
    for part in ("a.jsonl", "b.jsonl"):
        run([ROW], ds={"data_files": part})
    assert len(counts.load(tmp_path / "prepared")) == 2


def test_columns_can_be_named(run):
    rows = [{"q": "1+2", "t": "3", "a": "3"}]
    fields = {"field_human": "q", "field_thinking": "t", "field_model": "a"}
    assert len(run(rows, ds=fields)) == 1
    with pytest.raises(ValueError, match="all three"):
        run(rows, ds={"field_human": "q"})


def test_a_format_the_tokenizer_cannot_write_is_refused(run):
    with pytest.raises(ValueError, match="</think>"):
        run([ROW], S1Config(format="think-tags"))


def test_a_template_that_ends_turns_otherwise_is_refused(run, tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|end|>")
    with pytest.raises(ValueError, match=r"ends a turn with '<\|end\|>\\n'"):
        run([ROW])


def test_streams_are_refused(tokenizer):
    stream = datasets.Dataset.from_list([ROW]).to_iterable_dataset()
    with pytest.raises(ValueError, match="does not stream"):
        prepare(stream, tokenizer=tokenizer, settings=S1Config(), cfg=Cfg(), ds_cfg=Cfg(path="x"))
