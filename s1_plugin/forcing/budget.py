"""What is asked of one generation: how much thinking, and how it is made to end.

`Budget` is what a user says; `plan` turns it into token ids and numbers for one prompt. Pure
Python: the tokenizer comes in as a `TextEncoder`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.control import Control
from s1_plugin.formats import TraceFormat

#: Tokens that ``auto`` leaves for the answer (s1's evaluation fork of lm-eval).
ANSWER_RESERVE = 100

#: Names in lm-eval's ``--gen_kwargs``. The first three are those of the authors' evaluation, so
#: that their published commands carry over.
GEN_KWARGS = (
    "max_tokens_thinking",
    "thinking_n_ignore",
    "thinking_n_ignore_str",
    "min_tokens_thinking",
    "forced_answer",
    "answer_reserve",
)


@dataclass(frozen=True)
class Budget:
    """How long one thinking may be, in tokens counted from the end of the thinking prefix.

    Attributes:
        cap: most thinking tokens, or "auto": as many as leave room for an answer.
        waits: how many natural ends are replaced by ``wait_text``.
        wait_text: what stands in the end's place, or several strings to be used in turn; the
            paper also tried "Hmm", "Alternatively" and nothing at all.
        min_thinking: natural ends before this many thinking tokens are replaced too, whatever
            ``waits`` says (the paper's lower bound, section 3.1).
        forced_answer: what follows the answer delimiter when thinking is cut at its cap; None
            means the format's own (s1: ``Final Answer:`` on a line of its own).
        answer_reserve: tokens that "auto" leaves for the answer.
        control: one of the paper's other control methods, on top of the budget.

    Raises:
        ValueError: if a value makes no sense or two contradict; the message says what would do.
    """

    cap: int | Literal["auto"] = "auto"
    waits: int = 0
    wait_text: str | tuple[str, ...] = "Wait"
    min_thinking: int = 0
    forced_answer: str | None = None
    answer_reserve: int = ANSWER_RESERVE
    control: Control | None = None

    def __post_init__(self) -> None:
        if isinstance(self.wait_text, list):
            object.__setattr__(self, "wait_text", tuple(self.wait_text))
        if self.cap != "auto":
            _whole("max_tokens_thinking (cap), if not `auto`,", self.cap)
        _whole("thinking_n_ignore (waits)", self.waits)
        _whole("min_tokens_thinking (min_thinking)", self.min_thinking)
        _whole("answer_reserve", self.answer_reserve, least=1)
        texts = self.wait_text if isinstance(self.wait_text, tuple) else (self.wait_text,)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                "thinking_n_ignore_str (wait_text) must be a string or a list of strings (at least "
                f"one), got {self.wait_text!r}"
            )
        if self.cap != "auto" and self.min_thinking > self.cap:
            raise ValueError(
                f"min_tokens_thinking {self.min_thinking} contradicts max_tokens_thinking "
                f"{self.cap}; lower one or raise the other"
            )
        if self.cap == 0 and self.waits:
            raise ValueError(
                f"thinking_n_ignore {self.waits} contradicts max_tokens_thinking 0: without "
                "thinking there is no end to replace; raise the cap, or set thinking_n_ignore to 0"
            )
        if self.forced_answer is not None and not isinstance(self.forced_answer, str):
            raise ValueError(f"forced_answer must be a string, got {self.forced_answer!r}")
        forces = self.cap != "auto" or self.waits or self.min_thinking
        if self.control and self.control.rejects and forces:
            raise ValueError(
                "control=rejection forces nothing: set control_limit, and remove "
                "max_tokens_thinking, thinking_n_ignore and min_tokens_thinking"
            )

    @property
    def wait_texts(self) -> tuple[str, ...]:
        """The Wait strings, used in turn."""
        return (self.wait_text,) if isinstance(self.wait_text, str) else self.wait_text

    @classmethod
    def from_gen_kwargs(cls, kwargs: Mapping[str, Any]) -> Budget:
        """The budget in lm-eval's ``--gen_kwargs``; absent names mean the defaults above.

        A single Wait string or forced answer that lm-eval's parser read as a number is text again:
        ``3`` is "3". What may have been typed otherwise ("007", "1.50", "true") is only certain as
        a JSON string; truth values, nan and infinity are refused.
        """
        names = ("cap", "waits", "wait_text", "min_thinking", "forced_answer", "answer_reserve")
        given = {
            name: kwargs[key]
            for name, key in zip(names, GEN_KWARGS, strict=True)
            if kwargs.get(key) is not None
        }
        for name, key in (("wait_text", GEN_KWARGS[2]), ("forced_answer", GEN_KWARGS[4])):
            if name in given:
                given[name] = _typed(key, given[name])
        return cls(**given, control=Control.from_gen_kwargs(kwargs))

    @property
    def label(self) -> str:
        """Short name for metrics and plots, such as ``cap500`` or ``auto+2xWait``."""
        name = "auto" if self.cap == "auto" else f"cap{self.cap}"
        if self.control:
            name = f"{self.control.label}+{name}"
        if self.min_thinking:
            name += f"+min{self.min_thinking}"
        if self.waits:
            texts = "|".join(text.strip() or "nothing" for text in self.wait_texts)
            name += f"+{self.waits}x{texts}"
        # lm-eval cuts metric names at commas, and labels are printed to terminals.
        return re.sub(r"[^\w.+|-]+", "_", name)


def _typed(name: str, value: Any) -> Any:
    """``value``, but a number as text."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(
            f"{name} must be a string, but what was given reads as {value!r}; give --gen_kwargs as "
            f'JSON, with the text in quotes: \'{{"{name}": "…"}}\''
        )
    return str(value) if isinstance(value, (int, float)) else value


def _whole(name: str, value: object, least: int = 0) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


@dataclass(frozen=True)
class Plan:
    """One prompt's budget in token ids. ``context_bound`` says that the model's context, not
    the user, set the cap; ``wait_ids`` holds the Wait strings, used in turn."""

    cap: int
    context_bound: bool
    waits: int
    min_thinking: int
    wait_ids: tuple[tuple[int, ...], ...]
    end_ids: frozenset[int]
    natural_end: tuple[int, ...]
    capped_end: tuple[int, ...]
    newline: tuple[int, ...]
    stop_ids: frozenset[int]
    max_new_tokens: int


def plan(
    budget: Budget,
    encoder: TextEncoder,
    fmt: TraceFormat,
    *,
    prompt_length: int,
    max_new_tokens: int,
    context: int | None = None,
) -> Plan:
    """``budget`` for one prompt.

    Args:
        prompt_length: tokens of the prompt, the thinking prefix not counted.
        max_new_tokens: lm-eval's ``max_gen_toks``: tokens after the thinking prefix, thinking,
            delimiters and answer together. ``auto`` counts the prompt against it, as the
            authors do (``max_gen_toks - prompt - delimiters - 100``).
        context: longest sequence of the model, None if unknown.

    Raises:
        ValueError: if the prompt leaves no room, or the cap leaves none for an answer, or if the
            tokenizer cannot show the format's delimiters.
    """
    start = encoder.scaffold_ids(fmt.think_start)
    natural = tuple(encoder.scaffold_ids(fmt.answer_start))
    suffix = fmt.forced_answer if budget.forced_answer is None else budget.forced_answer
    capped = natural + tuple(encoder.text_ids(suffix))
    newline = tuple(encoder.text_ids("\n"))
    ends = delimiter_ids(encoder, fmt, "end_of_thinking")
    stops = delimiter_ids(encoder, fmt, "stop")
    if natural[0] not in ends:
        raise ValueError(
            f"format {fmt.name!r}: a model that writes {fmt.answer_start!r} itself would not be "
            "seen to end its thinking; let answer_start begin with a token in end_of_thinking"
        )
    room = max_new_tokens
    if context is not None:
        room = min(room, context - prompt_length - len(start))
    closing = len(newline) + len(capped)
    if room < closing + 1:
        raise ValueError(
            f"a prompt of {prompt_length} tokens leaves no room for an answer in a context of "
            f"{context} tokens with max_gen_toks (max_new_tokens) {max_new_tokens}; use a model "
            "with a longer context, or raise max_gen_toks"
        )
    if budget.cap == "auto":
        total = max_new_tokens if context is None else min(max_new_tokens, context)
        context_bound = total < max_new_tokens
        cap = total - prompt_length - len(start) - len(natural) - budget.answer_reserve
        if cap < 1:
            raise ValueError(
                f"max_tokens_thinking=auto leaves {cap} thinking tokens: {total} (the smaller of "
                f"max_gen_toks, or max_new_tokens, and the context) less {prompt_length} prompt "
                f"tokens, {len(start) + len(natural)} delimiter tokens and {budget.answer_reserve} "
                "for the answer; raise max_gen_toks or set a cap"
            )
        if budget.answer_reserve <= closing - len(natural):
            raise ValueError(
                f"answer_reserve {budget.answer_reserve} is too small: {closing - len(natural)} "
                "tokens are put in when thinking is cut, and an answer must follow; raise it"
            )
        if cap < budget.min_thinking and not context_bound:
            raise ValueError(
                f"min_tokens_thinking {budget.min_thinking} contradicts max_tokens_thinking=auto, "
                f"which is {cap} here; lower it, or raise max_gen_toks"
            )
    else:
        cap = budget.cap
        if cap + closing + 1 > max_new_tokens:
            raise ValueError(
                f"max_tokens_thinking {cap} leaves no room for an answer within max_gen_toks "
                f"(max_new_tokens) {max_new_tokens}; raise max_gen_toks to at least "
                f"{cap + closing + budget.answer_reserve}"
            )
        spare = room - closing
        fits = spare - max(min(budget.answer_reserve, spare // 2), 1)
        context_bound = room < max_new_tokens and cap > fits
        cap = min(cap, fits) if context_bound else cap
    return Plan(
        cap=cap,
        context_bound=context_bound,
        waits=budget.waits,
        min_thinking=budget.min_thinking,
        wait_ids=tuple(tuple(encoder.text_ids(text)) for text in budget.wait_texts),
        end_ids=ends,
        natural_end=natural,
        capped_end=capped,
        newline=newline,
        stop_ids=stops,
        max_new_tokens=room,
    )


def delimiter_ids(encoder: TextEncoder, fmt: TraceFormat, field: str) -> frozenset[int]:
    """The ids by which the delimiters in ``field`` of ``fmt`` are seen."""
    ids = {text: encoder.control_id(text) for text in getattr(fmt, field)}
    missing = [text for text, i in ids.items() if i is None and text not in fmt.optional]
    found = frozenset(i for i in ids.values() if i is not None)
    if missing or not found:
        raise ValueError(
            f"format {fmt.name!r}: the tokenizer has no single token for {missing or list(ids)} in "
            f"{field}, and several ordinary tokens are seen too late; use a delimiter that is, or "
            "begins with, one of the tokenizer's added tokens, or another format"
        )
    return found


def lacking(encoder: TextEncoder, fmt: TraceFormat, prompt: Sequence[int]) -> list[int]:
    """The tokens of the thinking prefix that must still follow ``prompt``: none if it ends with
    the prefix (some chat templates open the thinking themselves, newline included), all of it
    after a bare generation prompt."""
    opened = encoder.scaffold_ids(fmt.think_start + fmt.think_open)
    if list(prompt[-len(opened) :]) == opened:
        return []
    start = encoder.scaffold_ids(fmt.think_start)
    for size in range(len(start), 0, -1):
        if list(prompt[-size:]) == start[:size]:
            return start[size:]
    return start
