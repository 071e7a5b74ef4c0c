"""Balanced batches: the rows of every step are the trainer's own, and packed rows stay apart."""

import datasets
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from s1_plugin.plan import flops, shapes
from s1_plugin.training import batches, loss

TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}


def rows(count):
    """Row i begins with its number, and is as long as no other near it."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for i in range(count):
        n = 3 + int(torch.randint(0, 60, (), generator=draw))
        ids = [i, *torch.randint(5, 90, (n,), generator=draw).tolist()]
        labels = [-100, -100, *ids[2:]]
        found.append({"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)})
    return datasets.Dataset.from_list(found)


def plain(row):
    return {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}


# What stays apart


@pytest.fixture(params=batches.MODELS)
def family(request):
    return request.param


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_rows_do_not_see_one_another(family, attention):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, attn_implementation=attention, **TINY)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert model.config._attn_implementation == attention
    data = rows(3)
    item = batches.Packed(data)[(2, 0, 1)]
    first, second = len(data[2]["input_ids"]), len(data[2]["input_ids"]) + len(data[0]["input_ids"])
    assert item["position_ids"][0, first - 1 : first + 2].tolist() == [first - 1, 0, 1]
    inputs = {name: item[name] for name in ("input_ids", "position_ids")}
    with torch.no_grad():
        found = model(**inputs, use_cache=False).logits
        changed = inputs["input_ids"].clone()
        changed[0, :first] = (changed[0, :first] + 7) % 97
        other = model(input_ids=changed, position_ids=inputs["position_ids"], use_cache=False)
        alone = [model(input_ids=plain(data[row])["input_ids"]).logits for row in (2, 0, 1)]
        # the test can fail: in one row after another, without positions, the second sees the first
        seen = model(input_ids=inputs["input_ids"], use_cache=False).logits
    assert (other.logits[0, :first] - found[0, :first]).abs().max() > 0.1
    assert (other.logits[0, first:] - found[0, first:]).abs().max() <= 1e-6
    assert (found[0] - torch.cat(alone, dim=1)[0]).abs().max() <= 1e-5
    assert (seen[0, first:second] - found[0, first:second]).abs().max() > 0.1


def test_a_packed_row_learns_what_its_rows_learn_alone():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", use_cache=False, **TINY))
    data = rows(5)
    item = batches.Packed(data, multiple=8, pad=96)[(4, 1, 2)]
    length = sum(len(data[row]["input_ids"]) for row in (4, 1, 2))
    assert item["input_ids"].shape == (1, -(-length // 8) * 8) != (1, length)
    assert (item["input_ids"][0, length:] == 96).all()
    assert (item["labels"][0, length:] == -100).all()
    assert (item["position_ids"] == 0).sum() == 3  # what is added begins no row
    logits = model(input_ids=item["input_ids"], position_ids=item["position_ids"]).logits
    targets, weights = loss.token_weights(item["labels"], item["position_ids"])
    each = torch.nn.functional.cross_entropy(logits[0], targets[0], reduction="none")
    alone = [model(**plain(data[row])).loss for row in (4, 1, 2)]
    assert float((each * weights[0]).sum()) == pytest.approx(float(sum(alone)), rel=1e-5)


# The rows of a step


def loaders(data, groups, micro, accumulation, sampler=RandomSampler, drop_last=False):
    """As the trainer makes them, for every group: one row after another, and in balance."""
    coefficients = flops.row_cost(shapes.KNOWN["Qwen2.5-32B"])
    found = []
    for group in range(groups):
        share = {
            "num_processes": groups,
            "process_index": group,
            "use_seedable_sampler": True,
            "data_seed": 42,
        }
        stock = DataLoader(
            data, batch_size=micro, sampler=sampler(data), collate_fn=list, drop_last=drop_last
        )
        bins = batches.Bins(
            sampler(data),
            batches.row_lengths(data),
            micro,
            accumulation,
            groups,
            drop_last,
            coefficients,
        )
        ours = DataLoader(batches.Packed(data), batch_sampler=bins, collate_fn=batches._only)
        found.append(tuple(prepare_data_loader(loader, **share) for loader in (stock, ours)))
    return zip(*found, strict=True)


def numbers(batch):
    """The rows of a micro-batch, by their first tokens."""
    if isinstance(batch, list):
        return [row["input_ids"][0] for row in batch]
    return batch["input_ids"][batch["position_ids"] == 0].tolist()


def steps(loaders, accumulation, epoch=0, skip=0):
    """The rows of every step, over all groups, sorted; and their micro-batches group by group."""
    each = []
    for loader in loaders:
        if skip:
            loader = skip_first_batches(loader, skip)
        loader.set_epoch(epoch)
        each.append([numbers(batch) for batch in loader])
        assert len(each[-1]) == len(loader)
    found = []
    for at in range(0, len(each[0]), accumulation):
        parts = [group[at : at + accumulation] for group in each]
        found.append((sorted(n for part in parts for b in part for n in b), parts))
    return found


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("groups", "micro", "accumulation"), [(1, 4, 4), (2, 2, 4), (4, 4, 1)])
@pytest.mark.parametrize("count", [64, 61, 42])
def test_a_step_has_the_rows_of_the_trainer(count, groups, micro, accumulation, drop_last):
    stock, ours = loaders(rows(count), groups, micro, accumulation, drop_last=drop_last)
    orders = []
    for epoch in (0, 1, 4):
        want, got = (steps(each, accumulation, epoch) for each in (stock, ours))
        assert [step for step, _ in got] == [step for step, _ in want]
        assert all(batch for _, parts in got for part in parts for batch in part)
        seen = sorted(n for step, _ in got for n in step)
        assert seen == list(range(count)) or count != 64
        orders.append([step for step, _ in got])
    assert orders[0] != orders[1] != orders[2]
    # killed in the third epoch after two steps, and resumed
    skip = 2 * accumulation
    want, got = (steps(each, accumulation, 2, skip) for each in (stock, ours))
    assert [step for step, _ in got] == [step for step, _ in want]
    assert [parts for _, parts in got] == [p for _, p in steps(ours, accumulation, 2)[2:]]


def test_the_last_step_of_a_thousand_rows_goes_on_with_the_first():
    """1,000 = 62 x 16 + 8; the paper's sixteen GPUs take eight rows a second time."""
    bins = batches.Bins(range(1000), [5] * 1000, micro_batch=2, accumulation=1, groups=8)
    *_, last = bins.steps()
    assert sorted(row for part in last for row in part) == [*range(8), *range(992, 1000)]
    assert len(bins) == 63 * 8 == len(list(bins))


def test_the_groups_of_a_step_have_nearly_the_same_work():
    data = rows(64)
    stock, ours = loaders(data, 4, 4, 1)
    lengths = batches.row_lengths(data)
    assert lengths == [len(row["input_ids"]) for row in data]

    def worst(found):
        loads = [[sum(lengths[n] for n in part[0]) for part in parts] for _, parts in found]
        return max(max(step) / (sum(step) / 4) for step in loads)

    assert worst(steps(ours, 1)) < 1.03 < 1.2 < worst(steps(stock, 1))


def test_fullest_bins_share_a_micro_batch():
    """Groups wait for one another at every micro-batch: long rows belong together."""
    lengths = [1000, 1000, 10, 10]
    bins = batches.Bins(range(4), lengths, micro_batch=1, accumulation=2, groups=2)
    assert [batch for (batch,) in bins] == [(0,), (1,), (2,), (3,)]
    bins = batches.Bins([0, 2, 1, 3], lengths, micro_batch=1, accumulation=2, groups=2)
    assert [batch for (batch,) in bins] == [(0,), (1,), (2,), (3,)]


def test_rows_in_the_order_of_the_file():
    stock, ours = loaders(rows(32), 2, 4, 2, sampler=SequentialSampler)
    found = [step for step, _ in steps(ours, 2)]
    assert found == [list(range(16)), list(range(16, 32))] == [s for s, _ in steps(stock, 2)]


def trainer(tmp_path, family="qwen2", **settings):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **TINY))
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2} | settings
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to=[], save_strategy="no", **settings
    )
    data = rows(30)
    return Trainer(model=model, args=args, train_dataset=data, eval_dataset=data)


def test_the_trainer_trains_on_balanced_batches_and_evaluates_as_before(tmp_path, capsys):
    def order(found):
        each = []
        for epoch in (0, 1):
            found.set_epoch(epoch)
            each.append([sorted(numbers(batch)) for batch in found])
        return each

    made = trainer(tmp_path, seed=7)
    made.data_collator = list
    stock = order(made.get_train_dataloader())
    made.model.config.use_cache = True  # with it, rows would not be looked for in the positions
    batches.install(made)
    assert not made.model.config.use_cache
    loader = made.get_train_dataloader()
    assert "8 rows a step, groups x micro-batches: 1 x 2" in capsys.readouterr().err
    assert made.num_examples(loader) == 30 and len(loader) == 8
    ours = order(loader)
    for epoch in (0, 1):
        for at in (0, 2, 4, 6):
            (one, two), want = ours[epoch][at : at + 2], stock[epoch][at : at + 2]
            assert sorted(one + two) == sorted(want[0] + want[1])
    assert ours[0] != stock[0]
    assert isinstance(next(iter(made.get_eval_dataloader())), list)
    assert set(next(iter(loader))) == {"input_ids", "labels", "position_ids"}


# What is refused


def test_models_and_loaders_that_would_mix_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="models of type mistral, only for llama, qwen2, qwen3"):
        batches.install(trainer(tmp_path, "mistral"))
    made = trainer(tmp_path)
    made.model.config._attn_implementation = "paged|sdpa"
    with pytest.raises(ValueError, match=r"paged\|sdpa.*set one of eager"):
        batches.install(made)
    made = trainer(tmp_path, accelerator_config={"split_batches": True})
    with pytest.raises(ValueError, match=r"accelerator_config\.split_batches"):
        batches.install(made)
    made = trainer(tmp_path)
    made.train_dataset = made.train_dataset.to_iterable_dataset()
    with pytest.raises(ValueError, match="remove `streaming`"):
        batches.install(made)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sample_packing": True}, "`sample_packing`: .*remove one"),
        ({"eval_sample_packing": True}, "eval_sample_packing"),
        ({"batch_flattening": "auto"}, "batch_flattening"),
        ({"group_by_length": True}, "group_by_length"),
        ({"streaming": True}, "streaming"),
        ({"pretraining_dataset": [{"path": "x"}]}, "pretraining_dataset"),
        ({"rl": "dpo"}, "`rl`"),
        ({"attn_implementation": "xformers"}, "xformers.*set one of"),
        ({"attn_implementation": "sage"}, "sage"),
        ({"context_parallel_size": 2}, "ring_attn_func: varlen_llama3"),
        ({"context_parallel_size": 2, "ring_attn_func": "batch_ring"}, "across packed rows"),
    ],
)
def test_what_contradicts_balance_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        batches.check(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample_packing": False, "attn_implementation": "flash_attention_2"},
        {"attn_implementation": "kernels-community/flash-attn3@main:flash"},
        {"context_parallel_size": 2, "ring_attn_func": "varlen_llama3"},
        {"context_parallel_size": 1},
    ],
)
def test_what_goes_with_balance_is_not(settings):
    batches.check(settings)
