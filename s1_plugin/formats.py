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
    #: Tokens that end the thinking when the model draws one of them.
    end_of_thinking: tuple[str, ...]
    #: Tokens that end the answer; the first one closes the turn in training text.
    stop: tuple[str, ...]
    #: Put before an answer that does not contain ``answer_mark`` (training text only).
    answer_prefix: str = ""
    answer_mark: str = ""
    #: Follows ``answer_start`` when the thinking was cut at its cap.
    forced_answer: str = ""

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
)

FORMATS: dict[str, TraceFormat] = {f.name: f for f in (S1, THINK_TAGS)}


def get_format(name: str) -> TraceFormat:
    """The format called ``name``.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(sorted(FORMATS))
        raise ValueError(f"unknown trace format {name!r}; known formats: {known}") from None
