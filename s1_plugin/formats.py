"""Trace formats: how a question, its thinking and its answer become one assistant turn.

A format is a small value. The table at the end holds those we know; training, forcing and
evaluation all read the same entry, so a model is always asked in the format it was taught.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TraceFormat:
    """One assistant turn is ``think_start + thinking + think_end + answer + stop[0]``.

    The strings are written as they stand in the text. Those that are added tokens of the
    tokenizer become control tokens, all others are ordinary text.

    An end of the thinking is seen by one token: the string's only one, or the first of several if
    that is a control token (``<|im_start|>answer``). A string of several ordinary tokens cannot
    end the thinking: its first token stands in other text, too, and once the others have come it
    is too late to put Wait in its place. (The tokenizer decides, so `budget.plan` checks that.)

    Raises:
        ValueError: if a delimiter is missing, or a field is not what it should be.
    """

    name: str
    #: Put after the generation prompt; thinking tokens are counted from its end.
    think_start: str
    #: Between ``think_start`` and the thinking in training text. The model writes it itself
    #: when it generates, so it counts as thinking.
    think_open: str
    #: Between the thinking and ``answer_start`` in training text (written by the model too).
    think_close: str
    #: Put in when thinking ends by itself.
    answer_start: str
    #: Between ``answer_start`` and the answer in training text (written by the model).
    answer_open: str
    #: What ends the thinking when the model draws it; ``answer_start`` begins with one of these.
    end_of_thinking: tuple[str, ...]
    #: Tokens that end the answer; the first one closes the turn in training text.
    stop: tuple[str, ...]
    #: Put before an answer that does not contain ``answer_mark`` (training text only).
    answer_prefix: str = ""
    answer_mark: str = ""
    #: Follows ``answer_start`` when the thinking was cut at its cap.
    forced_answer: str = ""
    #: Those of ``end_of_thinking`` and ``stop`` that a tokenizer may lack: it cannot write them.
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("end_of_thinking", "stop", "optional"):
            value = getattr(self, name)
            good = isinstance(value, tuple) and all(isinstance(s, str) and s for s in value)
            if not good or not (value or name == "optional"):
                raise ValueError(
                    f'format {self.name!r}: {name} must be a tuple of strings such as ("</think>",)'
                    f", got {value!r}"
                )
        for name in ("name", "think_start", "answer_start"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(
                    f"format {self.name!r}: {name} must be a string of at least one character, "
                    f"got {getattr(self, name)!r}"
                )

    def answer_text(self, answer: str) -> str:
        """The answer as it is trained on: prefixed where it holds no mark, then stripped.

        Source: s1's ``tokenization.py`` prefixes ``Answer: `` before it strips.
        """
        if self.answer_mark and self.answer_mark not in answer:
            answer = self.answer_prefix + answer
        return answer.strip()


S1 = TraceFormat(
    name="s1",
    think_start="<|im_start|>think",
    think_open="\n",
    think_close="\n",
    answer_start="<|im_start|>answer",
    answer_open="\n",
    # Thinking ends at any of these (https://arxiv.org/abs/2501.19393, section 3, and its code).
    end_of_thinking=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    stop=("<|im_end|>", "<|endoftext|>"),
    answer_prefix="Answer: ",
    answer_mark="Answer:",
    forced_answer="\nFinal Answer:",
    optional=("<|endoftext|>",),
)

THINK_TAGS = TraceFormat(
    name="think-tags",
    think_start="<think>",
    think_open="\n",
    think_close="\n",
    answer_start="</think>",
    answer_open="\n\n",
    end_of_thinking=("</think>", "<|im_end|>", "<|endoftext|>"),
    stop=("<|im_end|>", "<|endoftext|>"),
    forced_answer="\n\nFinal Answer:",
    optional=("<|endoftext|>",),
)

FORMATS: dict[str, TraceFormat] = {f.name: f for f in (S1, THINK_TAGS)}


def get_format(name: str | TraceFormat) -> TraceFormat:
    """The format called ``name``; a format of one's own is returned as it is.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if isinstance(name, TraceFormat):
        return name
    try:
        return FORMATS[name]
    except (KeyError, TypeError):
        known = ", ".join(sorted(FORMATS))
        raise ValueError(
            f"unknown trace format {name!r}; known formats: {known} (in Python, a TraceFormat of "
            "your own)"
        ) from None
