"""What is asked of one generation: how much thinking, and how it is made to end.

`Budget` is what a user says; `plan` turns it into token ids and numbers for one prompt. Pure
Python: the tokenizer comes in as a `TextEncoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s1_plugin.encoding import Piece, TextEncoder
from s1_plugin.formats import TraceFormat

#: Tokens that ``auto`` leaves for the answer (s1's evaluation fork of lm-eval).
ANSWER_RESERVE = 100

#: Names of the authors' evaluation, so that their published commands carry over.
GEN_KWARGS = ("max_tokens_thinking", "thinking_n_ignore", "thinking_n_ignore_str")


@dataclass(frozen=True)
class Budget:
    """How long one thinking may be, in tokens counted from the end of the thinking prefix.

    Attributes:
        cap: most thinking tokens, or "auto": as many as leave room for an answer.
        waits: how many natural ends are replaced by ``wait_text``.
        wait_text: what stands in the end's place; the paper also tried "Hmm", "Alternatively"
            and nothing at all.

    Raises:
        ValueError: if a value makes no sense; the message says what would.
    """

    cap: int | Literal["auto"] = "auto"
    waits: int = 0
    wait_text: str = "Wait"

    def __post_init__(self) -> None:
        if self.cap != "auto" and (
            not isinstance(self.cap, int) or isinstance(self.cap, bool) or self.cap < 0
        ):
            raise ValueError(
                f"max_tokens_thinking must be `auto` or a number of tokens >= 0, got {self.cap!r}"
            )
        if not isinstance(self.waits, int) or isinstance(self.waits, bool) or self.waits < 0:
            raise ValueError(
                f"thinking_n_ignore must be a whole number of Waits >= 0, got {self.waits!r}"
            )
        if not isinstance(self.wait_text, str):
            raise ValueError(f"thinking_n_ignore_str must be a string, got {self.wait_text!r}")

    @classmethod
    def from_gen_kwargs(cls, kwargs: Mapping[str, Any]) -> Budget:
        """The budget in lm-eval's ``--gen_kwargs``; absent names mean the defaults above."""
        cap = kwargs.get("max_tokens_thinking", "auto")
        waits = kwargs.get("thinking_n_ignore", 0)
        text = kwargs.get("thinking_n_ignore_str", "Wait")
        return cls(
            cap="auto" if cap is None else cap,
            waits=0 if waits is None else waits,
            wait_text="Wait" if text is None else str(text),
        )

    @property
    def label(self) -> str:
        """Short name for metrics and plots, such as ``cap500`` or ``auto+2xWait``."""
        name = "auto" if self.cap == "auto" else f"cap{self.cap}"
        if not self.waits:
            return name
        return f"{name}+{self.waits}x{self.wait_text.strip() or 'nothing'}"


@dataclass(frozen=True)
class Plan:
    """One prompt's budget in token ids. ``context_bound`` says that the model's context, not
    the user, set the cap."""

    cap: int
    context_bound: bool
    waits: int
    wait_ids: tuple[int, ...]
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
        ValueError: if the prompt leaves no room, or the cap leaves none for an answer.
    """
    start = encoder.scaffold_ids(fmt.think_start)
    natural = tuple(encoder.scaffold_ids(fmt.answer_start))
    capped = natural + tuple(encoder.text_ids(fmt.forced_answer))
    newline = tuple(encoder.text_ids("\n"))
    ends = [encoder.control_id(token) for token in fmt.end_of_thinking]
    stops = [encoder.control_id(token) for token in fmt.stop]

    room = max_new_tokens
    if context is not None:
        room = min(room, context - prompt_length - len(start))
    closing = len(newline) + len(capped)
    if room < closing + 1:
        raise ValueError(
            f"a prompt of {prompt_length} tokens leaves no room for an answer in a context of "
            f"{context} tokens with max_gen_toks {max_new_tokens}; use a model with a longer "
            "context, or raise max_gen_toks"
        )
    if budget.cap == "auto":
        cap = max_new_tokens - prompt_length - len(start) - len(natural) - ANSWER_RESERVE
        if cap < 1:
            raise ValueError(
                f"max_tokens_thinking=auto leaves {cap} thinking tokens: max_gen_toks "
                f"{max_new_tokens} less {prompt_length} prompt tokens, "
                f"{len(start) + len(natural)} delimiter tokens and {ANSWER_RESERVE} for the "
                "answer; raise max_gen_toks or set a cap"
            )
    else:
        cap = budget.cap
        if cap + closing + 1 > max_new_tokens:
            raise ValueError(
                f"max_tokens_thinking {cap} leaves no room for an answer within max_gen_toks "
                f"{max_new_tokens}; raise max_gen_toks to at least {cap + closing + ANSWER_RESERVE}"
            )
    fits = max(room - closing - min(ANSWER_RESERVE, (room - closing) // 2), 0)
    context_bound = room < max_new_tokens and cap > fits
    return Plan(
        cap=fits if context_bound else cap,
        context_bound=context_bound,
        waits=budget.waits,
        wait_ids=tuple(encoder.encode([Piece(budget.wait_text, data=True)])),
        end_ids=frozenset(i for i in ends if i is not None),
        natural_end=natural,
        capped_end=capped,
        newline=newline,
        stop_ids=frozenset(i for i in stops if i is not None),
        max_new_tokens=room,
    )
