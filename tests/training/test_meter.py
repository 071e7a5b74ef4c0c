import pytest
import torch

from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import S1, THINK_TAGS
from s1_plugin.training.meter import Meter, Totals, answer_mask, delimiter


@pytest.fixture(scope="module")
def thinker(qwen):
    """The real tokenizer with the tags that Qwen3 has as tokens."""
    from copy import deepcopy

    tokenizer = deepcopy(qwen)
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


@pytest.mark.parametrize("fmt", [S1, THINK_TAGS], ids=lambda fmt: fmt.name)
def test_the_answer_of_real_rows_begins_at_the_delimiter(thinker, traces, fmt):
    encoder = TextEncoder(thinker)
    records = [
        (r["question"], "\n".join(r["thinking_trajectories"]), r["attempt"]) for r in traces[:40]
    ]
    rows = encoder.rows(records, fmt)
    packed_labels = torch.tensor([[label for row in rows for label in row.labels]])
    positions = torch.tensor([[i for row in rows for i in range(len(row.input_ids))]])
    want = [i >= row.answer_at for row in rows for i in range(len(row.input_ids))]
    ids = delimiter(thinker, fmt)
    packed = answer_mask(packed_labels, positions, ids)
    assert packed.tolist() == [want]
    apart = [answer_mask(torch.tensor([row.labels]), None, ids)[0].tolist() for row in rows]
    assert [flag for row in apart for flag in row] == want


def test_the_delimiter_written_in_data_or_prompt_is_none(qwen):
    encoder = TextEncoder(qwen)
    (row,) = encoder.rows([("Q <|im_start|>answer", "say <|im_start|>answer twice", "7")], S1)
    mask = answer_mask(torch.tensor([row.labels]), None, delimiter(qwen, S1))[0]
    assert mask.nonzero()[0] == row.answer_at
    assert mask.sum() == len(row.input_ids) - row.answer_at


def test_padding_and_rows_cut_before_the_answer_have_none():
    labels = torch.tensor([[-100, 5, 8, 9, 6, -100], [-100, 5, 5, 5, 5, 8]])
    mask = answer_mask(labels, None, [8, 9])
    assert mask.tolist() == [[False, False, True, True, True, False], [False] * 6]
    assert not answer_mask(torch.tensor([[8]]), None, [8, 9]).any()


def test_sums_are_kept_apart_and_begin_anew():
    meter = Meter()
    meter.add(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([False, False, True]))
    meter.add(torch.tensor([8.0]), torch.tensor([True]))
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 1], [0, 1, 0, 1, 2, 3, 4]])
    real = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]).bool()
    meter.add_rows(positions == 0, real)
    totals = meter.take()
    assert totals == Totals(3.0, 2, 12.0, 2, (3, 2, 2, 5))
    assert (totals.tokens, totals.rows) == (12, 4)
    assert meter.take() == Totals(0.0, 0, 0.0, 0, ())
