"""What a teacher wrote: its thinking told from its answer, and whether that makes a trace."""

from __future__ import annotations

import re
from dataclasses import dataclass

from s1_plugin.formats import TraceFormat

#: How a row of the ledger can have ended. Only ``ok`` rows are traces.
STATUSES = ("ok", "truncated", "empty", "refused", "no_thinking", "error")

#: ``<think>`` of R1 and its like without a reasoning parser, ``<thought>`` of Gemini's
#: OpenAI-compatible address. Templates of R1 open the tag themselves, so the first may be missing.
_TAGS = re.compile(r"\s*(?:<(?:think|thought)>)?(?P<thinking>.*?)</(?:think|thought)>", re.DOTALL)
#: Words before a tag at the start of a line; anywhere else a tag is only talked of.
_BEFORE = re.compile(
    r"(?P<before>.*?)^[ \t]*<(?:think|thought)>(?P<thinking>.*?)</(?:think|thought)>",
    re.DOTALL | re.MULTILINE,
)
_OPENED = re.compile(r"\s*<(?:think|thought)>")
#: Gemini marks its thoughts and leaves the tags at their edges.
_EDGES = re.compile(r"\A\s*</?(?:think|thought)>|</?(?:think|thought)>\s*\Z")

#: Ends of a reply that is whole: OpenAI's, and those that TGI (``eos_token``, ``stop_sequence``),
#: Together (``eos``) and Anthropic (``end_turn``) have. Every other end cuts it short.
_WHOLE = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
_AT_LIMIT = ("length", "max_tokens", "model_length")


@dataclass(frozen=True)
class Reply:
    """A whole reply.

    Attributes:
        finish: why it ended: "stop", "length", "content_filter", or what the server calls it.
        served_as: what the server calls the model.
        prompt_tokens, completion_tokens: as the server counts them; 0 if it does not.
        reasoning_tokens: the part of ``completion_tokens`` that is thinking, where it is told.
        refusal: the teacher's words, where the server marks a refusal.
    """

    thinking: str
    answer: str
    finish: str
    served_as: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int | None = None
    refusal: str = ""

    def status(self) -> tuple[str, str]:
        """One of `STATUSES`, and the reason where it is not ``ok``."""
        finish = self.finish.lower()
        # Gemini says which of its filters after a colon.
        if self.refusal or finish.startswith("content_filter") or finish == "refusal":
            return "refused", self.refusal or "the server's content filter"
        if finish in _AT_LIMIT:
            part = "answer" if self.answer else "thinking"
            return "truncated", f"cut at the token limit, in the {part}"
        if finish not in _WHOLE:
            return "truncated", f"finish {self.finish[:80]!r}"
        if not self.answer:
            what = "thinking without an answer" if self.thinking else "no text at all"
            return "empty", what
        if not self.thinking:
            return "no_thinking", "an answer without thinking"
        return "ok", ""


def split_tags(text: str, reasoning: str) -> tuple[str, str]:
    """Thinking and answer of a chat reply: of the server's two channels, or of tags in the text.

    Words before the opening tag are said and not thought: they begin the answer.
    """
    if reasoning.strip():
        return _EDGES.sub("", reasoning).strip(), _EDGES.sub("", text).strip()
    match = _TAGS.match(text)
    if match:
        before = _BEFORE.match(text, 0, match.end())
        match = before or match
        said = before["before"].strip() if before else ""
        answer = "\n\n".join(filter(None, (said, text[match.end() :].strip())))
        return match["thinking"].strip(), answer
    opened = _OPENED.match(text)
    return (text[opened.end() :].strip(), "") if opened else ("", text.strip())


def split_format(text: str, fmt: TraceFormat) -> tuple[str, str]:
    """Thinking and answer of text that goes on after ``fmt.think_start``."""
    for end in fmt.stop:
        text = text.partition(end)[0]
    thinking, _, answer = text.partition(fmt.answer_start)
    return thinking.strip(), answer.strip()
