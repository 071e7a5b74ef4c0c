"""The tables of `kernel`: what each request in an engine's batch asks for, and where it stands.

Nothing here waits for the device in an ordinary step. Which ends were drawn comes back to the host
a step or two later, in copies that run beside the engine's own work.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from s1_plugin.forcing import kernel
from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.state import Thinking

#: Told of (slot, output position, end token drawn there or -1: none was, or `FOREIGN`).
Listener = Callable[[int, int, int], None]

FOREIGN = kernel.FOREIGN.value
_MODE = {
    "forced": kernel.FORCED.value,
    "ending": kernel.ENDING.value,
    "masked": kernel.MASKED.value,
}
_BLOCK, _WARPS = 8192, 16
#: A copy that was started as many steps ago has arrived: no engine is further ahead of its results.
_LAG = 2


@dataclass(frozen=True)
class Warpers:
    """How a request draws: ``temperature`` 0 is greedy, ``top_k`` 0 is off; ``key`` (64 bits) names
    its random stream."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    key: int = 0


def stream_key(seed: int, stream: str) -> int:
    """The key of a stream's random numbers."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Board:
    """Slots for requests on one device.

    Args:
        slots: how many requests there can be.
        history: rows that one request can have in a step (1, or draft tokens + 1).
        newlines: (width of the logits,) whether the text of each token ends with a newline.
        vocabulary: ids from here on do not exist in the tokenizer.
        listener: told of what was drawn where, in order of position, a step or two later.
    """

    def __init__(
        self,
        slots: int,
        *,
        history: int,
        newlines: np.ndarray,
        vocabulary: int,
        device: torch.device,
        listener: Listener,
    ) -> None:
        self.slots, self.history, self.vocabulary = slots, history, vocabulary
        self.device, self.listener = device, listener
        self._newline = newlines.astype(bool)
        self.newlines = torch.from_numpy(newlines.astype(np.uint8)).to(device)
        self.programs = torch.zeros((slots, 128), dtype=torch.int32, device=device)
        self.warpers = torch.zeros((slots, 3), dtype=torch.float32, device=device)
        self.keys = torch.zeros(slots, dtype=torch.int64, device=device)
        self.states = torch.full(
            (slots, history, kernel.STATE.value), kernel.NOTHING.value, dtype=torch.int32
        ).to(device)
        self.marks = torch.full(
            (slots, history, kernel.MARKS.value), kernel.NOTHING.value, dtype=torch.int32
        ).to(device)
        self._rows = torch.arange(slots * history, device=device)
        self._told: dict[int, int] = {}  # last position whose event the listener was told, by slot
        self._held: set[int] = set()
        self._copies: deque[tuple[Any, torch.Tensor]] = deque()
        self._spare: list[tuple[Any, torch.Tensor]] = []  # copies that have been read

    # -- requests ------------------------------------------------------------------------------

    def put(
        self,
        slot: int,
        mode: str,
        warpers: Warpers,
        *,
        prompt: int,
        refused: int,
        plan: Plan | None = None,
        prefix: Sequence[int] = (),
        tokens: Sequence[int] = (),
        events: Mapping[int, int] | None = None,
    ) -> None:
        """A request takes ``slot``.

        Args:
            mode: "forced"; "ending": it gets the token ``refused`` and nothing else; "masked": only
                ids that do not exist are kept from it.
            prompt: number of prompt tokens.
            prefix: what is forced before the thinking.
            tokens: output tokens so far (it was preempted, and goes on).
            events: end tokens drawn among them, by position.

        Waits for the device, so that the listener has heard all about who was in the slot.
        """
        self.flush()
        program = _program(_MODE[mode], warpers.top_k, prompt, refused, plan, prefix, len(tokens))
        if len(program) > self.programs.shape[1]:
            grown = torch.zeros(
                (self.slots, 2 * len(program)), dtype=torch.int32, device=self.device
            )
            grown[:, : self.programs.shape[1]] = self.programs
            self.programs = grown
        state = [0] * kernel.STATE.value
        if plan is not None:
            state = self._state(plan, len(prefix), tokens, events or {}, program)
        nothing = [kernel.NOTHING.value] * kernel.MARKS.value
        self._upload(self.programs[slot, : len(program)], program)
        self._upload(self.states[slot, 0], state)
        self._upload(
            self.marks[slot],
            [[len(tokens), kernel.NOTHING.value], *[nothing] * (self.history - 1)],
        )
        self._upload(self.warpers[slot], [warpers.temperature, warpers.top_p, warpers.min_p])
        self._upload(self.keys[slot : slot + 1], [warpers.key])
        self._told.pop(slot, None)
        self._held.add(slot)

    def free(self, slot: int) -> None:
        """The request in ``slot`` has left."""
        if slot in self._held:
            self._held.discard(slot)
            self._told.pop(slot, None)
            self.programs[slot, 0] = kernel.IDLE.value

    def _state(
        self,
        plan: Plan,
        prefix: int,
        tokens: Sequence[int],
        events: Mapping[int, int],
        program: Sequence[int],
    ) -> list[int]:
        """The state row of a thinking that has come to ``tokens``, told by `Thinking` itself."""
        thinking = Thinking(plan, lambda token: bool(self._newline[token]))
        for position, token in enumerate(tokens[prefix:], start=prefix):
            if thinking.answering:
                break
            if thinking.push(events.get(position, token)) is None:
                thinking.push(token)
        state = [0] * kernel.STATE.value
        state[kernel.WAITED.value] = thinking.waits
        state[kernel.ENDED.value] = int(thinking.ended is not None)
        state[kernel.AFTER_WAIT.value] = int(thinking.must_not_end())
        state[kernel.WAITING.value] = int(thinking.ended is None and thinking.due() is not None)
        if len(tokens) > prefix:
            state[kernel.NEWLINE.value] = int(self._newline[tokens[-1]])
        queue = thinking.queued
        if queue:  # always the end of one of the request's sequences
            stop = {
                "natural": program[kernel.NATURAL_STOP.value],
                "cap": program[kernel.CLOSE_STOP.value],
                "context": program[kernel.CLOSE_STOP.value],
            }.get(thinking.ended or "")
            if stop is None:
                table = program[kernel.TABLE.value]
                string = (thinking.waits - 1) % len(plan.wait_ids)
                stop = program[table + 2 * string + 1]
            state[kernel.QUEUE.value] = stop - len(queue)
            state[kernel.QUEUE_STOP.value] = stop
        return state

    def _upload(self, where: torch.Tensor, numbers: Sequence[Any]) -> None:
        where.copy_(torch.tensor(numbers, dtype=where.dtype), non_blocking=True)

    # -- steps ---------------------------------------------------------------------------------

    def step(
        self,
        logits: torch.Tensor,
        slots: torch.Tensor,
        offsets: torch.Tensor,
        positions: torch.Tensor,
        fed: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> None:
        """Changes ``logits`` in place, for all requests in one step.

        Args:
            logits: (rows, width) float32, before the engine's temperature, min-p, top-k, top-p.
            slots: (n,) the request of each row that is looked at; its rows stand together.
            offsets: (n,) how many of them stand before.
            positions: (n,) position, prompt included, of the token that was fed.
            fed: (n,) that token.
            rows: (n,) where the rows are in ``logits``; the first n if None.
        """
        count = slots.shape[0]
        if rows is None:
            if count > self._rows.shape[0]:
                self._rows = torch.arange(count, device=self.device)
            rows = self._rows
        width = logits.shape[1]
        kernel.step[(count,)](
            logits, logits.stride(0), rows, slots, offsets, positions, fed, count,
            self.programs, self.programs.shape[1], self.warpers, self.keys, self.states, self.marks,
            self.newlines, min(self.vocabulary, width), width,
            HISTORY=self.history, BLOCK=min(_BLOCK, _power_of_two(width)), num_warps=_WARPS,
        )  # fmt: skip
        self._tell(_LAG)
        self._fetch()

    def _fetch(self) -> None:
        if self.device.type == "cpu":
            self._copies.append((None, self.marks.clone()))
            return
        if not self._spare:
            copy = torch.empty(self.marks.shape, dtype=self.marks.dtype, pin_memory=True)
            self._spare.append((torch.cuda.Event(), copy))
        done, copy = self._spare.pop()
        copy.copy_(self.marks, non_blocking=True)
        done.record()
        self._copies.append((done, copy))

    def _tell(self, lag: int) -> None:
        while len(self._copies) > lag:
            done, copy = self._copies.popleft()
            if done is not None:
                done.synchronize()
            marks = copy.numpy()
            known, event = marks[:, :, kernel.KNOWN.value], marks[:, :, kernel.EVENT.value]
            # A step that is made again may take back what it said.
            again = [slot for slot, position in self._told.items() if known[slot, 0] <= position]
            self._told = {slot: self._told[slot] for slot in again}
            if again or (event != kernel.NOTHING.value).any():
                news = event != kernel.NOTHING.value
                for slot in again:
                    news[slot] |= (known[slot] >= 0) & (known[slot] <= self._told[slot])
                for slot, row in zip(*np.nonzero(news), strict=True):
                    self._say(int(slot), int(known[slot, row]), int(event[slot, row]))
            if done is not None:
                self._spare.append((done, copy))

    def _say(self, slot: int, position: int, event: int) -> None:
        if slot in self._held:
            self._told[slot] = max(self._told.get(slot, -1), position)
            self.listener(slot, position, event)

    def flush(self) -> None:
        """Tells the listener all there is; waits for the device."""
        self._tell(0)


def _program(
    mode: int,
    top_k: int,
    prompt: int,
    refused: int,
    plan: Plan | None,
    prefix: Sequence[int],
    outputs: int,
) -> list[int]:
    """The program row of a request, as `kernel` reads it."""
    head = [0] * kernel.BODY.value
    head[kernel.MODE.value] = mode
    head[kernel.PROMPT.value] = prompt
    head[kernel.PREFILL.value] = prompt + outputs
    head[kernel.REFUSED.value] = refused
    head[kernel.TOP_K.value] = top_k
    if plan is None:
        return head
    ends = sorted(plan.end_ids)
    body: list[int] = [*ends, *prefix]
    at = kernel.BODY.value + len(body)
    head[kernel.CAP.value], head[kernel.WAITS.value] = _int32(plan.cap), _int32(plan.waits)
    head[kernel.LEAST.value] = _int32(plan.min_thinking)
    head[kernel.STRINGS.value] = len(plan.wait_ids)
    head[kernel.N_ENDS.value], head[kernel.PREFIX.value] = len(ends), len(prefix)
    body += plan.natural_end
    head[kernel.NATURAL.value], head[kernel.NATURAL_STOP.value] = at, at + len(plan.natural_end)
    at += len(plan.natural_end)
    body += [*plan.newline, *plan.capped_end]
    head[kernel.CLOSE.value] = at
    head[kernel.CLOSE_PLAIN.value] = at + len(plan.newline)
    head[kernel.CLOSE_STOP.value] = at = at + len(plan.newline) + len(plan.capped_end)
    head[kernel.TABLE.value] = at
    start = at + 2 * len(plan.wait_ids)
    cuts = accumulate(map(len, plan.wait_ids), initial=start)
    body += [cut for pair in pairwise(cuts) for cut in pair]
    body += [token for ids in plan.wait_ids for token in ids]
    return head + body


def _int32(number: int) -> int:
    return min(number, 2**31 - 1)


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 1).bit_length()


def newline_table(tokenizer: Any, width: int) -> np.ndarray:
    """(width,) booleans: whether the text of each token id ends with a newline."""
    known = range(min(len(tokenizer), width))
    texts: Iterable[str] = tokenizer.batch_decode(
        [[token] for token in known],
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    table = np.zeros(width, dtype=bool)
    table[: len(known)] = [text.endswith("\n") for text in texts]
    return table
