"""Budget forcing inside vLLM: one logits processor for both of its interfaces.

    llm = LLM(model, logits_processors=["s1_plugin.forcing.vllm:BudgetForcingProcessor"])
    vllm serve MODEL --logits-processors s1_plugin.forcing.vllm:BudgetForcingProcessor

A request is forced if its ``extra_args`` (``vllm_xargs``) say so, see `vllm_request`. A prompt that
lacks the thinking prefix gets it forced first, so a plain chat request can be forced, too.

The law of a draw is that of the engine: a row in which no end token can survive temperature,
min-p, top-k and top-p is left to the engine. In any other row of a thinking the processor draws
from the distribution as the engine's own warpers leave it and hands on a one-hot row.

On a GPU all is decided there (`board`), so that an engine may run ahead of its results.
On a CPU, under V1, the same is done by the state machine itself (`lane`, `vllm_rows`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.tokenizers import get_tokenizer
from vllm.v1.sample.logits_processor import LogitsProcessor as V1Processor
from vllm.v1.sample.logits_processor import MoveDirectionality

from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.budget import Plan, lacking, plan
from s1_plugin.forcing.draw import stream_of
from s1_plugin.forcing.lane import ForeignTokenError, Lane
from s1_plugin.forcing.vllm_rows import Row, Sampling, force

if TYPE_CHECKING:
    from s1_plugin.forcing.board import Board

try:  # vLLM 0.31 and later
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as V2Processor
except ImportError:

    class V2Processor:  # type: ignore[no-redef]
        """Stands in where the interface does not exist."""


logger = logging.getLogger("vllm.s1_plugin")

#: Requests that left the batch and may come back after preemption (finished ones look the same).
_REMEMBERED = 4096


@dataclass
class _Seat:
    """A forced request in the batch.

    Attributes:
        name: of what was asked, the prompt included.
        events: end tokens drawn, by output position.
        tokens: under V1, the engine's own list of output tokens.
        slot: on the board.
        refused: the token that ends a request that cannot be honoured.
    """

    name: str
    sampling: Sampling
    prompt: int
    events: dict[int, int]
    tokens: list[int]
    record: vllm_request.Recorder | None = None
    lane: Lane | None = None
    slot: int = -1
    refused: int | None = None


class BudgetForcingProcessor(V1Processor, V2Processor):  # type: ignore[misc]
    """See the module. V1 calls `update_state` and ``apply(logits)``; V2 calls `add_request`,
    `apply_staged_writes` and ``apply(logits, context)``."""

    replica = 0  # of several engines that share the requests (data parallel)

    def __init__(self, vllm_config: Any, device_or_states: Any, is_pin_memory: Any = None) -> None:
        config = vllm_config.model_config
        if getattr(vllm_config.parallel_config, "enable_batch_sharded_sampling", False):
            # Preempted, a request may come back to a rank that never saw it.
            raise ValueError(
                "budget forcing and batch-sharded sampling do not go together: no rank would know "
                "all ends that were replaced; start vLLM without --enable-batch-sharded-sampling"
            )
        tokenizer = get_tokenizer(
            config.tokenizer,
            tokenizer_mode=config.tokenizer_mode,
            trust_remote_code=config.trust_remote_code,
            revision=config.tokenizer_revision,
        )
        self.context = int(config.max_model_len)
        self.engine_seed = int(config.seed or 0)
        self.replica = int(getattr(vllm_config.parallel_config, "data_parallel_rank", 0) or 0)
        speculative = getattr(vllm_config, "speculative_config", None)
        drafts = int(getattr(speculative, "num_speculative_tokens", 0) or 0)
        v2 = hasattr(device_or_states, "all_token_ids")
        device = torch.device(device_or_states.device if v2 else device_or_states)
        self._start(
            tokenizer,
            states=device_or_states if v2 else None,
            device=device,
            slots=device_or_states.max_num_reqs
            if v2
            else int(vllm_config.scheduler_config.max_num_seqs),
            width=int(config.get_vocab_size()),
            history=1 + drafts,
            on_device=v2 or device.type != "cpu",
        )

    def _start(
        self,
        tokenizer: Any,
        *,
        states: Any,
        device: torch.device,
        slots: int,
        width: int,
        history: int,
        on_device: bool,
    ) -> None:
        self.encoder = TextEncoder(tokenizer)
        self.ends_with_newline = newline_test(tokenizer)
        self.vocabulary = len(tokenizer)
        self.eos = int(tokenizer.eos_token_id or 0)
        self.states = states
        self.seats: dict[int, _Seat] = {}  # by row of the batch (V1) or slot (V2)
        self.board: Board | None = None
        if on_device:
            from s1_plugin.forcing.board import Board, newline_table

            self.board = Board(
                slots,
                history=history,
                newlines=newline_table(tokenizer, max(width, self.vocabulary)),
                vocabulary=self.vocabulary,
                device=device,
                listener=self._hear,
            )
        self._free = list(range(slots))
        self._at: dict[int, _Seat] = {}  # by slot
        self._new: dict[int, Any] = {}  # V2: slots whose prompt has not been read yet
        self._left: deque[tuple[str, dict[int, int]]] = deque(maxlen=_REMEMBERED)
        self._joined = 0

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuses, at submission, what cannot be honoured (`vllm_request.validate`)."""
        vllm_request.validate(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Greedy requests are forced as well."""
        return False

    # -- V1 -------------------------------------------------------------------------------------

    def update_state(self, batch_update: Any) -> None:
        """Requests come, go and change places."""
        if batch_update is None or not (self.seats or batch_update.added):
            return
        for index in batch_update.removed:
            self._leave(index)
        for index, params, prompt, tokens in batch_update.added:
            self._leave(index)
            if vllm_request.is_forced(params.extra_args):
                slot = self._free.pop() if self.board else -1
                self.seats[index] = self._seat(params, prompt, tokens, slot)
        for a, b, direction in batch_update.moved:
            first = self.seats.pop(a, None)
            if direction == MoveDirectionality.SWAP:
                if (second := self.seats.pop(b, None)) is not None:
                    self.seats[a] = second
            else:
                self._leave(b)  # a row that is filled by a move is not among the removed ones
            if first is not None:
                self.seats[b] = first

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """Masks, draws and forces in the rows of forced requests; (rows, vocabulary)."""
        if ctx is not None:
            assert self.board is not None
            if any(slot in self._at for slot in ctx.idx_mapping_np.tolist()):
                self.board.step(
                    logits,
                    ctx.expanded_idx_mapping,
                    ctx.expanded_local_pos,
                    ctx.pos,
                    ctx.input_ids,
                )
            return logits
        if self.seats:
            for seat in self.seats.values():
                if seat.tokens and seat.tokens[-1] == -1:
                    raise RuntimeError(
                        "vLLM gave placeholders in place of output tokens; load the processor "
                        f"with logits_processors=[{vllm_request.PROCESSOR!r}]"
                    )
            if self.board is None:
                self._force(logits)
            else:
                table = [
                    (
                        row,
                        seat.slot,
                        0,
                        seat.prompt - 1 + len(seat.tokens),
                        (seat.tokens or [-1])[-1],
                    )
                    for row, seat in self.seats.items()
                ]
                columns = torch.tensor(list(zip(*table, strict=True)), pin_memory=logits.is_cuda)
                rows, slots, offsets, positions, fed = columns.to(logits.device, non_blocking=True)
                self.board.step(logits, slots, offsets, positions, fed, rows)
        return logits

    def _force(self, logits: torch.Tensor) -> None:
        rows = []
        for index, seat in self.seats.items():
            if seat.lane is not None:
                try:
                    seat.lane.follow(seat.tokens)
                except ForeignTokenError as error:
                    self._refuse(seat, str(error))
            rows.append(Row(index, seat.lane, seat.sampling, seat.refused))
        force(logits, rows, self.vocabulary)

    # -- V2 -------------------------------------------------------------------------------------

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """A request takes a slot; its prompt is on the device, and read later."""
        self._new.pop(req_idx, None)
        self._leave(req_idx)
        if not vllm_request.is_forced(sampling_params.extra_args):
            return False
        self._new[req_idx] = sampling_params
        return True

    def apply_staged_writes(self) -> None:
        """Reads the prompts of requests that are new. This alone waits for the device."""
        for slot, params in self._new.items():
            prompt = int(self.states.prompt_len.np[slot])
            length = int(self.states.prefill_len.np[slot])
            tokens = self.states.all_token_ids.gpu[slot, :length].tolist()
            self.seats[slot] = self._seat(params, tokens[:prompt], tokens[prompt:], slot)
        self._new.clear()

    # -- both -----------------------------------------------------------------------------------

    def _seat(
        self, params: Any, prompt: Sequence[int] | None, tokens: list[int], slot: int
    ) -> _Seat:
        self._joined += 1
        stream = stream_of(prompt or ())
        # What is asked belongs to the name: the same prompt may come under many budgets.
        name = stream_of(prompt or (), repr(sorted(params.extra_args.items())))
        if params.seed is None:
            # All ranks of an engine see requests join in the same order; replicas do not.
            stream = f"{stream}/{self.replica}/{self._joined}"
        sampling = Sampling.of(params, self.engine_seed, stream)
        seat = _Seat(name, sampling, len(prompt or ()), {}, tokens, slot=slot)
        seat.record = vllm_request.recorder(params.extra_args.get(vllm_request.TRACE))
        planned: Plan | None = None
        prefix: list[int] = []
        if not params.extra_args.get(vllm_request.ANSWERING):
            try:
                planned, prefix = self._plan(params, prompt)
                seat.events = self._earlier(name, planned, prefix, tokens)
            except (ValueError, TypeError) as error:
                # Only here are tokenizer and prompt at hand; raising would take the engine down.
                self._refuse(seat, str(error))
        if self.board is None:
            if planned is not None:
                record = seat.record
                seat.lane = Lane(planned, self.ends_with_newline, prefix, seat.events, record)
            return seat
        self._at[slot] = seat
        mode = "forced" if planned else "masked" if seat.refused is None else "ending"
        self.board.put(
            slot,
            mode,
            sampling.warpers(),
            prompt=seat.prompt,
            refused=self.eos,
            plan=planned,
            prefix=prefix,
            tokens=tokens,
            events=seat.events,
        )
        return seat

    def _plan(self, params: Any, prompt: Sequence[int] | None) -> tuple[Plan, list[int]]:
        """The budget in token ids, and what is forced before the thinking."""
        if prompt is None:
            raise ValueError("budget forcing needs a prompt of token ids, not of embeddings")
        budget, fmt = vllm_request.parse(params.extra_args)
        if missing := self.encoder.missing_tokens(fmt):
            raise ValueError(
                f"the tokenizer has no single token for {', '.join(missing)}, which the format "
                f"{fmt.name!r} needs; set {vllm_request.FORMAT}"
            )
        prefix = lacking(self.encoder, fmt, prompt)
        start = self.encoder.scaffold_ids(fmt.think_start)
        limit = params.max_tokens or self.context
        if limit >= self.context - len(prompt):
            limit = 2**31 - 1  # nobody set one: vLLM fills in what the context leaves
        planned = plan(
            budget,
            self.encoder,
            fmt,
            prompt_length=len(prompt) - len(start) + len(prefix),
            max_new_tokens=limit - len(prefix),
            context=self.context,
        )
        put_in = {*planned.natural_end, *planned.capped_end, *planned.newline}
        put_in.update(*planned.wait_ids, prefix)
        if cut := sorted(put_in.intersection(params.stop_token_ids or ())):
            raise ValueError(
                f"stop_token_ids {cut} are among the tokens that forcing puts in: the response "
                "would end there; remove them (the format says where an answer ends)"
            )
        return planned, prefix

    def _refuse(self, seat: _Seat, message: str) -> None:
        logger.error("[s1-plugin] a forced request ends without an answer: %s", message)
        if seat.record is not None:
            seat.record(None, message.replace("\n", " "))
        seat.lane, seat.refused = None, self.eos

    def _hear(self, slot: int, position: int, event: int) -> None:
        """What the board decided, a step or two ago."""
        from s1_plugin.forcing import board

        seat = self._at[slot]
        if event == board.FOREIGN:
            if seat.refused is None:
                self._refuse(seat, str(ForeignTokenError.at(position)))
        elif event < 0:
            if seat.events.pop(position, None) is not None and seat.record:
                seat.record(position, None)
        elif seat.events.get(position) != event:
            seat.events[position] = event
            if seat.record:
                seat.record(position, event)

    # A preempted request leaves the batch and joins it again later, with its output tokens. Which
    # of its Waits stand for an end is found by what was asked, and by whether it fits the tokens.

    def _leave(self, index: int) -> None:
        seat = self.seats.pop(index, None)
        if seat is None:
            return
        if self.board is not None:
            self.board.flush()
            self.board.free(seat.slot)
            self._at.pop(seat.slot, None)
            if self.states is None:
                self._free.append(seat.slot)
        if seat.events:
            self._left.append((seat.name, dict(seat.events)))

    def _earlier(
        self, name: str, planned: Plan, prefix: Sequence[int], tokens: Sequence[int]
    ) -> dict[int, int]:
        """Ends drawn among ``tokens``, as far as anybody remembers.

        Raises:
            ValueError: if what is remembered does not explain the tokens.
        """
        if not tokens:
            return {}
        if self.board is not None:
            self.board.flush()
        known = [*self._left, *((s.name, s.events) for s in self.seats.values())]
        same = [
            {at: end for at, end in events.items() if at < len(tokens)}
            for other, events in known
            if other == name
        ]
        for events in [*sorted(same, key=len, reverse=True), {}]:
            try:
                Lane(planned, self.ends_with_newline, prefix, dict(events)).follow(tokens)
            except ForeignTokenError:  # a twin's
                continue
            return events
        raise ValueError(
            "a preempted request came back with tokens that nobody remembers forcing; ask again"
        )
