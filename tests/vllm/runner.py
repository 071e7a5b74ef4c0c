"""vLLM's second model runner without a model: its own slots, batches, samplers and kernels.

The order of the calls is that of ``vllm/v1/worker/gpu/model_runner.py``; the logits are the test's.
On a CPU the kernels are interpreted. vLLM declines Triton there, so this module hands it to those
of vLLM's modules that are imported here first, and belongs in a process of its own.
"""

# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if GPU else torch.device("cpu")
if not GPU:
    import triton
    import vllm.triton_utils
    from triton.language.extra import libdevice

    vllm.triton_utils.triton = triton
    vllm.triton_utils.tl = triton.language
    vllm.triton_utils.tldevice = libdevice

from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu import buffer_utils
from vllm.v1.worker.gpu.input_batch import (
    InputBatch,
    InputBuffers,
    combine_sampled_and_draft_tokens,
    expand_idx_mapping,
    post_update,
    prepare_pos_seq_lens,
    prepare_prefill_inputs,
)
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcRequestState
from vllm.v1.worker.gpu.sample.sampler import Sampler
from vllm.v1.worker.gpu.spec_decode.rejection_sampler import RejectionSampler
from vllm.v1.worker.gpu.states import RequestState

if not GPU:
    from vllm.v1.worker.cpu.buffer_utils import UvaBuffer

    buffer_utils.UvaBuffer = UvaBuffer  # as vLLM's own runner for CPUs has it


class Runner:
    """Requests by name; ``drafts`` is the number of draft tokens a step may have."""

    def __init__(
        self,
        processors: Callable[[RequestState], Sequence[object]],
        *,
        slots: int,
        length: int,
        width: int,
        drafts: int = 0,
    ) -> None:
        self.drafts = drafts
        self.states = RequestState(
            max_num_reqs=slots,
            max_model_len=length,
            max_num_batched_tokens=slots * length,
            num_speculative_steps=drafts,
            vocab_size=width,
            device=DEVICE,
        )
        self.sampler = Sampler(
            SimpleNamespace(reasoning_config=None),
            slots,
            width,
            DEVICE,
            self.states,
            num_speculative_tokens=1 + drafts,
            custom_logits_processors=processors(self.states),
        )
        spec = SimpleNamespace(
            num_speculative_tokens=drafts,
            enable_adaptive_verification=False,
            rejection_sample_method="standard",
        )
        self.rejection_sampler = RejectionSampler(self.sampler, spec, DEVICE)
        self.buffers = InputBuffers(slots, slots * length, DEVICE)
        self.joined = False  # since the last step

    def add(self, name, prompt, params, output=()):
        """A request joins, with the tokens it had when it was preempted."""
        tokens = [*prompt, *output]
        self.states.add_request(name, len(prompt), tokens, 0, params.max_tokens or 100)
        self.sampler.add_request(self.states.req_id_to_index[name], params)
        self.joined = True

    def remove(self, name):
        """It has finished, or is preempted. Nobody tells the sampler."""
        self.states.remove_request(name)

    def flush(self):
        """The start of a step: what joined is written."""
        if self.joined:
            self.states.apply_staged_writes()
        self.joined = False
        self.sampler.apply_staged_writes()

    def left(self, name):
        """How many tokens are known that were not fed yet."""
        slot = self.states.req_id_to_index[name]
        return int(self.states.prefill_len.np[slot] - self.states.num_computed_tokens_np[slot])

    def batch(
        self, scheduled: Mapping[str, int], drafts: Mapping[str, Sequence[int]]
    ) -> InputBatch:
        """``scheduled``: how many tokens of each request are fed, drafts included."""
        states, names = self.states, list(scheduled)
        count = len(names)
        slots = np.array([states.req_id_to_index[name] for name in names], dtype=np.intp)
        fed = np.array([scheduled[name] for name in names], dtype=np.int32)
        idx_mapping = async_tensor_h2d(slots, device=DEVICE, dtype=torch.int64)
        n_drafts = np.array([len(drafts.get(name, ())) for name in names], dtype=np.int32)
        for slot, name in zip(slots, names, strict=True):
            if drafts.get(name):
                guess = np.array(drafts[name], dtype=np.int64)
                async_tensor_h2d(guess, out=states.draft_tokens[slot, : len(guess)])
        ends = np.concatenate([[0], np.cumsum(1 + n_drafts)]).astype(np.int32)
        cu_num_logits = async_tensor_h2d(ends, device=DEVICE)
        if n_drafts.any():
            rows, local = expand_idx_mapping(
                idx_mapping, int(ends[-1]), cu_num_logits, 1 + self.drafts
            )
        else:
            rows, local = idx_mapping, torch.zeros(count, dtype=torch.int32, device=DEVICE)
        starts = np.full(states.max_num_reqs + 1, fed.sum(), dtype=np.int32)
        starts[: count + 1] = np.concatenate([[0], np.cumsum(fed)])
        async_tensor_h2d(starts, out=self.buffers.query_start_loc)
        query_start_loc = self.buffers.query_start_loc[: count + 1]
        computed = states.num_computed_tokens_np[slots]
        prefill = states.prefill_len.np[slots]
        if (computed < prefill).any():
            prepare_prefill_inputs(
                self.buffers.input_ids, states.next_prefill_tokens, idx_mapping, query_start_loc,
                states.all_token_ids.gpu, states.prefill_len.gpu, states.num_computed_tokens.gpu,
            )  # fmt: skip
        prepare_pos_seq_lens(
            idx_mapping, query_start_loc, states.num_computed_tokens.gpu, self.buffers.positions,
            self.buffers.seq_lens,
        )  # fmt: skip
        seq_lens = self.buffers.seq_lens[:count]
        logits_indices = combine_sampled_and_draft_tokens(
            self.buffers.input_ids, idx_mapping, states.last_sampled_tokens, query_start_loc,
            seq_lens, states.prefill_len.gpu, states.draft_tokens, cu_num_logits, int(ends[-1]),
        )  # fmt: skip
        total = int(fed.sum())
        return InputBatch(
            req_ids=names,
            num_reqs=count,
            num_reqs_after_padding=count,
            idx_mapping=idx_mapping,
            idx_mapping_np=slots,
            expanded_idx_mapping=rows,
            expanded_local_pos=local,
            num_scheduled_tokens=fed,
            num_tokens=total,
            num_tokens_after_padding=total,
            num_draft_tokens=int(n_drafts.sum()),
            num_draft_tokens_per_req=n_drafts,
            query_start_loc=query_start_loc,
            query_start_loc_np=starts[: count + 1],
            seq_lens=seq_lens,
            seq_lens_cpu_upper_bound=torch.from_numpy(computed + fed),
            dcp_local_seq_lens=None,
            num_computed_tokens_np=computed,
            prefill_len_np=prefill,
            num_computed_prefill_tokens_np=np.minimum(computed, prefill),
            is_prefilling_np=computed < prefill,
            has_prefill=bool((computed < prefill).any()),
            decode_graph_eligible=False,
            input_ids=self.buffers.input_ids[:total],
            positions=self.buffers.positions[:total],
            is_padding=self.buffers.is_padding[:total],
            logits_indices=logits_indices,
            cu_num_logits=cu_num_logits,
            cu_num_logits_np=ends,
            has_structured_output_reqs=False,
            prompt_lens=None,
        )

    def sample(self, logits, batch):
        """Draws and writes into the slots. What comes back is on the device: `read` it."""
        sampler = self.rejection_sampler if batch.num_draft_tokens else self.sampler
        out, states = sampler(logits, batch), self.states
        post_update(
            batch.idx_mapping, states.num_computed_tokens.gpu, states.last_sampled_tokens,
            self.sampler.penalties_state.output_bin_counts, out.sampled_token_ids, out.num_sampled,
            out.num_rejected, batch.query_start_loc, states.all_token_ids.gpu, states.total_len.gpu,
        )  # fmt: skip
        # What the scheduler assumes until it knows how many drafts were rejected.
        states.num_computed_tokens_np[batch.idx_mapping_np] += batch.num_scheduled_tokens
        return batch, out

    def read(self, batch, out):
        """The tokens of a step, by request; waits for the device."""
        if batch.num_draft_tokens:
            rejected = out.num_rejected.cpu().numpy()
            self.states.num_computed_tokens_np[batch.idx_mapping_np] -= rejected
        rows = zip(out.sampled_token_ids.tolist(), out.num_sampled.tolist(), strict=True)
        return {n: row[:k] for n, (row, k) in zip(batch.req_ids, rows, strict=True)}


def slots_of(states: RequestState) -> LogitsProcRequestState:
    """What vLLM shows a processor."""
    return LogitsProcRequestState.from_request_state(states)
