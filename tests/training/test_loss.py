import pytest
import torch
from torch.nn import functional as F

from s1_plugin.training import loss


def naive(logits, rows):
    """Mean over rows of the mean over the row's learned tokens. ``rows``: (row, start, labels)."""
    means = []
    for row, start, labels in rows:
        found = [
            F.cross_entropy(logits[row, start + i - 1].double(), torch.tensor(label))
            for i, label in enumerate(labels)
            if label != -100 and i
        ]
        if found:
            means.append(torch.stack(found).mean())
    return torch.stack(means).mean()


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(3, 3000, 11, requires_grad=True)
    labels = torch.full((3, 3000), -100)
    lengths = [2900, 40, 3]
    for row, n in enumerate(lengths):
        labels[row, 10 : 10 + n] = torch.randint(0, 11, (n,))
    return logits, labels


def test_rows_weigh_the_same_whatever_their_length(batch):
    logits, labels = batch
    assert loss.count(labels, None) == 3
    want = naive(logits, [(r, 0, labels[r].tolist()) for r in range(3)])
    got = loss.sequence_mean(logits, labels, None, 3)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    (ours,) = torch.autograd.grad(got, logits)
    (theirs,) = torch.autograd.grad(want, logits)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    tokens = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert abs(tokens.item() - got.item()) > 1e-3  # token by token is something else


def test_packed_sequences_weigh_the_same_and_do_not_predict_across(batch):
    logits, _ = batch
    pieces = [(0, 5), (5, 1200), (1205, 7), (1212, 300)]
    labels = torch.full((1, 3000), -100)
    positions = torch.zeros((1, 3000), dtype=torch.long)
    for start, n in pieces:
        positions[0, start : start + n] = torch.arange(n)
        labels[0, start : start + n] = torch.randint(0, 11, (n,))  # the first one is not learned
    positions[0, 1512:] = torch.arange(3000 - 1512)  # padding, a sequence of its own
    assert loss.count(labels, positions) == 4
    rows = [(0, start, labels[0, start : start + n].tolist()) for start, n in pieces]
    got = loss.sequence_mean(logits[:1], labels, positions, 4)
    assert got.item() == pytest.approx(naive(logits, rows).item(), rel=1e-6)


def test_micro_batches_add_up_to_the_step(batch):
    logits, labels = batch
    whole = loss.sequence_mean(logits, labels, None, 3)
    parts = sum(loss.sequence_mean(logits[r : r + 1], labels[r : r + 1], None, 3) for r in range(3))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)


def test_rows_without_anything_to_learn_do_not_count(batch):
    logits, labels = batch
    labels[1] = -100
    assert loss.count(labels, None) == 2
    want = naive(logits, [(r, 0, labels[r].tolist()) for r in (0, 2)])
    got = loss.sequence_mean(logits, labels, None, 2)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
