"""One of two ranks that share a model by FSDP2, as axolotl does on GPUs, under `s1.loss: sequence`;
by torchrun, over gloo. The trainer, which knows GPUs alone here, is played by a few lines."""

import sys
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F


class Trainer:
    """What `loss.install` uses of one."""

    def __init__(self, model):
        self.model, self.accelerator = model, self
        self.num_processes = distributed.get_world_size()

    def unwrap_model(self, model):
        return model

    def reduce(self, value, how):
        distributed.all_reduce(value)
        return value

    def compute_loss(self, model, inputs, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return self.compute_loss_func(model(**inputs), labels, num_items_in_batch)


def tiny():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    made = Qwen2ForCausalLM(config)
    made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return made.train()


def rows(rank):
    """Two packed rows for each rank, of other lengths; 300 and 3 learned tokens, say."""
    generator = torch.Generator().manual_seed(rank)
    lengths = [(30, 300), (7, 45)][rank]
    ids = torch.randint(0, 50, (1, sum(lengths)), generator=generator)
    positions = torch.cat([torch.arange(n) for n in lengths]).unsqueeze(0)
    labels = ids.masked_fill(positions < 4, -100)
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def reference():
    """The mean over all four sequences of the mean over their tokens, on one process."""
    model, means = tiny(), []
    for rank in range(2):
        batch = rows(rank)
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
        for start, end in zip(starts, [*starts[1:], logits.shape[0]], strict=True):
            ids, labels = logits[start : end - 1], batch["labels"][0, start + 1 : end]
            means.append(F.cross_entropy(ids, labels))
    torch.stack(means).mean().backward()
    return {name: p.grad for name, p in model.named_parameters()}


def gathered(model, rank) -> None:
    """A head that all ranks gather whenever one calls it, as under ZeRO-3: with 300 and 45 tokens
    to learn, in pieces of 20, it must be called as often on both, or one would wait for ever."""
    from s1_plugin.training import loss

    loss.CHUNK = 20
    model.lm_head.weight.ds_id = 0
    calls = torch.zeros(1)

    def gather(*_):
        calls.add_(1)
        distributed.all_reduce(torch.zeros(1))

    model.lm_head.register_forward_pre_hook(gather)
    trainer = Trainer(model)
    loss.install(trainer)
    batch = rows(rank)
    total = trainer._get_num_items_in_batch([batch], "cpu")
    trainer.compute_loss(model, batch, num_items_in_batch=total).backward()
    most = calls.clone()
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    if rank == 0:
        print(f"off by {float(most - calls):.2e} in {int(calls)} calls")
    distributed.destroy_process_group()


def main() -> None:
    from s1_plugin.training import loss, recompute

    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank, kind = distributed.get_rank(), sys.argv[1]
    model = tiny()
    if kind == "gathered":
        gathered(model, rank)
        return
    if kind == "bfloat16":
        # All tokens cost log(50): the loss is what the weights add up to.
        torch.nn.init.zeros_(model.lm_head.weight)
    dtype = getattr(torch, kind)
    policy = MixedPrecisionPolicy(dtype, dtype, output_dtype=dtype)  # as accelerate makes it
    mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
    trainer = Trainer(model)
    loss.install(trainer)
    recompute.use_budget(model.model, per_token=1.0, budget=100.0)  # one layer of the short row
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    batch = rows(rank)
    total = trainer._get_num_items_in_batch([batch], "cpu")
    found = trainer.compute_loss(model, batch, num_items_in_batch=total)
    found.backward()
    said = found.detach().clone()
    distributed.all_reduce(said)
    if kind == "bfloat16":
        weight = model.model.layers[0].mlp.up_proj.weight
        before = weight.full_tensor().clone()
        weight.grad = torch.ones_like(weight)  # of a head of zeros there is none
        torch.optim.Adam([weight], lr=1e-5).step()
        moved = (weight.full_tensor() != before).float().mean()
        assert weight.dtype == torch.float32 and moved > 0.99, "steps of 1e-5 are lost"
        off = abs(said.item() / 2 / torch.tensor(50.0).log().item() - 1)
    else:
        want = reference()
        top = bottom = 0.0
        for name, p in model.named_parameters():
            top += float((p.grad.full_tensor() - want[name]).double().square().sum())
            bottom += float(want[name].double().square().sum())
        off = (top / bottom) ** 0.5
    if rank == 0:
        print(f"off by {off:.2e}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
