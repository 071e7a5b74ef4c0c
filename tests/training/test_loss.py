import copy

import pytest
import torch
from torch.nn import functional as F

from s1_plugin.training import loss
from tests import tiny


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


def weighted(logits, labels, positions, total):
    """As training does it; here the hidden states are the logits."""
    targets, weights = loss.token_weights(labels, positions)
    losses = loss.head_losses(lambda x: x, logits.flatten(0, 1), targets.flatten(), 3)
    return (losses * weights.flatten()).sum() / total


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(3, 3000, 11, requires_grad=True)
    labels = torch.full((3, 3000), -100)
    lengths = [2900, 40, 3]
    for row, n in enumerate(lengths):
        labels[row, 10 : 10 + n] = torch.randint(0, 11, (n,))
    return logits, labels


def packed():
    """Four sequences and padding in one row of 3,000."""
    pieces = [(0, 5), (5, 1200), (1205, 7), (1212, 301)]
    labels = torch.full((1, 3000), -100)
    positions = torch.zeros((1, 3000), dtype=torch.long)
    for start, n in pieces:
        positions[0, start : start + n] = torch.arange(n)
        labels[0, start : start + n] = torch.randint(0, 11, (n,))  # the first one is not learned
    positions[0, 1513:] = torch.arange(3000 - 1513)  # padding, a sequence of its own
    return labels, positions, pieces


def test_rows_weigh_the_same_whatever_their_length(batch):
    logits, labels = batch
    assert loss.count(labels, None) == 3
    want = naive(logits, [(r, 0, labels[r].tolist()) for r in range(3)])
    got = weighted(logits, labels, None, 3)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    (ours,) = torch.autograd.grad(got, logits)
    (theirs,) = torch.autograd.grad(want, logits)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    tokens = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert abs(tokens.item() - got.item()) > 1e-3  # token by token is something else


def test_packed_sequences_weigh_the_same_and_do_not_predict_across(batch):
    logits, _ = batch
    labels, positions, pieces = packed()
    assert loss.count(labels, positions) == 4
    rows = [(0, start, labels[0, start : start + n].tolist()) for start, n in pieces]
    got = weighted(logits[:1], labels, positions, 4)
    assert got.item() == pytest.approx(naive(logits, rows).item(), rel=1e-6)


def test_micro_batches_add_up_to_the_step(batch):
    logits, labels = batch
    whole = weighted(logits, labels, None, 3)
    parts = sum(weighted(logits[r : r + 1], labels[r : r + 1], None, 3) for r in range(3))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)


def test_rows_without_anything_to_learn_do_not_count(batch):
    logits, labels = batch
    labels[1] = -100
    assert loss.count(labels, None) == 2
    want = naive(logits, [(r, 0, labels[r].tolist()) for r in (0, 2)])
    got = weighted(logits, labels, None, 2)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)


# -- inside a model ---------------------------------------------------------------------------


def model_of(**settings):
    return tiny.qwen2(11, seed=1, **settings)


class Trainer:
    """What `loss.install` uses of a trainer, on one rank, or on one of several that are played one
    after another: then sums over ranks are those given."""

    def __init__(self, model, ranks=1, shards=1, total=None):
        self.model, self.accelerator = model, self
        self.num_processes, self.total = ranks, total
        self.parallelism_config = type("Parallel", (), {"cp_size": shards})()

    def unwrap_model(self, model):
        return model

    def reduce(self, value, how):
        return value if self.total is None else torch.tensor(float(self.total))

    def compute_loss(self, model, inputs, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return self.compute_loss_func(model(**inputs), labels, num_items_in_batch)


def step(trainer, batches):
    total = trainer._get_num_items_in_batch(batches, "cpu")
    trainer.model.train()
    losses = [
        trainer.compute_loss(trainer.model, dict(b), num_items_in_batch=total) for b in batches
    ]
    sum(losses).backward()
    return sum(x.item() for x in losses)


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_a_model_returns_the_loss_of_its_own_logits_and_the_same_gradient(monkeypatch):
    monkeypatch.setattr(loss, "CHUNK", 7)
    ours, plain = model_of(), model_of()
    labels, positions, pieces = packed()
    labels, positions = labels[:, :1600], positions[:, :1600]
    ids = torch.randint(0, 11, labels.shape)
    rows = [(0, start, labels[0, start : start + n].tolist()) for start, n in pieces]
    want = naive(plain(input_ids=ids, position_ids=positions).logits, rows)
    want.backward()
    trainer = Trainer(ours)
    loss.install(trainer)
    got = step(trainer, [{"input_ids": ids, "position_ids": positions, "labels": labels}])
    assert got == pytest.approx(want.item(), rel=1e-5)
    assert (gradient(ours) - gradient(plain)).norm() <= 1e-5 * gradient(plain).norm()
    assert ours(input_ids=ids).logits.shape == (1, 1600, 11)  # generation is as it was


@pytest.mark.parametrize("shards", [2, 4])
def test_rows_cut_into_shards_give_the_same_gradient(shards):
    """Context parallelism as axolotl cuts: every rank gets all inputs and keeps its part. Attention
    over ranks needs a GPU; so the model here has none, each position being by itself."""
    from axolotl.utils.ctx_managers.sequence_parallel import apply_sequence_parallelism

    class Alone(torch.nn.Module):
        def forward(self, input_ids, **kwargs):
            hidden = self.embed(input_ids)
            return type("Out", (), {"last_hidden_state": hidden + self.mlp(hidden)})

    def model():
        found = model_of()
        found.model.forward = Alone.forward.__get__(
            type(
                "Parts", (), {"embed": found.model.embed_tokens, "mlp": found.model.layers[0].mlp}
            )()
        )
        return found

    labels, positions, _ = packed()
    labels[0, :700] = -100  # a shard without anything to learn, where there are four
    labels, positions = labels[:, :1999], positions[:, :1999]  # not a multiple
    inputs = {"input_ids": torch.randint(0, 11, labels.shape), "labels": labels}
    inputs["position_ids"] = positions
    whole = model()
    trainer = Trainer(whole)
    loss.install(trainer)
    want = step(trainer, [inputs])

    split, got = model(), 0.0
    for rank in range(shards):
        trainer = Trainer(split, ranks=shards, shards=shards, total=3 * shards)

        def cut(_, args, kwargs, rank=rank):
            copied = dict(kwargs)
            return args, apply_sequence_parallelism(copied, rank, shards, 1, None)[0]

        handle = split.register_forward_pre_hook(cut, with_kwargs=True)
        trainer.model.forward = split.__class__.forward.__get__(split)
        loss.install(trainer)
        got += step(trainer, [inputs]) / shards
        handle.remove()
    assert loss.count(labels, positions) == 3
    assert got == pytest.approx(want, rel=1e-5)
    used = [p for p in whole.parameters() if p.grad is not None]
    ours = [p for p in split.parameters() if p.grad is not None]
    for a, b in zip(used, ours, strict=True):
        assert (a.grad - b.grad / shards).norm() <= 1e-5 * a.grad.norm()


def test_the_meter_is_told_the_losses_of_thinking_and_answer():
    from s1_plugin.training.meter import Meter

    model, meter = model_of(), Meter()
    trainer = Trainer(copy.deepcopy(model))
    loss.install(trainer, meter, [9, 10])
    ids = torch.tensor([[1, 2, 3, 4, 9, 10, 5, 6], [1, 2, 3, 9, 10, 7, 0, 0]])
    labels = ids.clone()
    labels[:, :2] = labels[1, 6:] = -100
    real = torch.tensor([[1] * 8, [1] * 6 + [0] * 2])
    step(trainer, [{"input_ids": ids, "labels": labels, "attention_mask": real}])
    got = meter.take()
    losses = F.cross_entropy(
        model(ids, attention_mask=real).logits.transpose(1, 2), ids.roll(-1, 1), reduction="none"
    )
    assert got.thinking_loss_sum == pytest.approx(
        (losses[0, 1:3].sum() + losses[1, 1]).item(), rel=1e-5
    )
    assert got.answer_loss_sum == pytest.approx(
        (losses[0, 3:7].sum() + losses[1, 2:5].sum()).item(), rel=1e-5
    )
    assert (got.thinking_tokens, got.answer_tokens) == (3, 7)
    assert (got.lengths, got.rows) == ((8, 6), 2)


@pytest.mark.parametrize("name", loss._OTHER_HEADS)
def test_a_model_with_another_loss_is_refused(name):
    model = model_of()
    setattr(model.config, name, 0.5)
    with pytest.raises(ValueError, match=name):
        loss.install(Trainer(model))
