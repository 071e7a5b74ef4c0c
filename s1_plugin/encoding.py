"""From text to token ids, so that text from data never becomes a control token.

A prompt or a training row is a list of pieces: *scaffold* (chat template and format delimiters,
where added tokens such as ``<|im_start|>`` are meant) and *data* (questions, traces, answers,
where the same characters are just characters). Pieces are cut into control tokens and runs of
plain text; a run is encoded whole, by a copy of the tokenizer that knows no added tokens.
Encoding run by run gives the ids that the whole string has; field by field would not, because a
period and the newline after it merge.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from s1_plugin.formats import TraceFormat

#: The label of a token that the loss leaves out.
IGNORED = -100


class Piece(NamedTuple):
    """A stretch of text; ``data`` says that it is no place for control tokens."""

    text: str
    data: bool = False


class Encoded(NamedTuple):
    """Token ids of one training row; the first ``prompt_length`` of them are not learned.

    ``answer_at`` is the position of the answer delimiter, or None where the format has no
    control token there.
    """

    input_ids: list[int]
    prompt_length: int
    answer_at: int | None

    @property
    def labels(self) -> list[int]:
        """``input_ids`` with `IGNORED` over the prompt."""
        return [IGNORED] * self.prompt_length + self.input_ids[self.prompt_length :]


# Stands for the question or the answer while the chat template is rendered; the spaces show
# whether the template strips what it is given.
_MARK = " \ue000s1\ue001 "


@dataclass(frozen=True)
class _Template:
    before: str
    after: str
    closing: str
    strips: bool


class TextEncoder:
    """Encodes pieces, prompts and training rows with one Hugging Face fast tokenizer.

    Args:
        tokenizer: a fast tokenizer with a chat template (``PreTrainedTokenizerFast``).

    Raises:
        ValueError: if the tokenizer is not one that can keep data and control tokens apart.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(
                "s1-plugin needs a fast tokenizer (one with a tokenizer.json); "
                f"got {type(tokenizer).__name__}"
            )
        # The same model without added tokens, and without the normalizer: see `_normalized`.
        self._plain = type(backend)(backend.model)
        self._plain.pre_tokenizer = backend.pre_tokenizer
        self._normalizer = backend.normalizer
        self._is_nfc = type(self._normalizer).__name__ == "NFC"
        self.added: dict[str, int] = dict(tokenizer.get_added_vocab())
        longest_first = sorted(self.added, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._runs: dict[str, list[int]] = {}
        self._self_check()

    def __getstate__(self) -> dict[str, Any]:
        """For `datasets`, which hashes what it maps with and sends it to its workers: without the
        Python tokenizer, whose vocabulary takes a second to pickle and is not used in `rows`."""
        return {**self.__dict__, "template": self.template, "tokenizer": None}

    # -- pieces ---------------------------------------------------------------------------

    def split(self, pieces: Iterable[Piece]) -> list[int | str]:
        """Control-token ids and runs of plain text, in order; neighbouring text is joined."""
        parts: list[int | str] = []

        def add_text(text: str) -> None:
            if not text:
                return
            if parts and isinstance(parts[-1], str):
                parts[-1] += text
            else:
                parts.append(text)

        for text, data in pieces:
            if data:
                add_text(text)
                continue
            position = 0
            for match in self._control.finditer(text):
                add_text(text[position : match.start()])
                parts.append(self.added[match.group()])
                position = match.end()
            add_text(text[position:])
        return parts

    def encode(self, pieces: Iterable[Piece]) -> list[int]:
        """Token ids of ``pieces``."""
        return self.encode_batch([pieces])[0]

    def encode_batch(self, rows: Iterable[Iterable[Piece]]) -> list[list[int]]:
        """Token ids of every row of pieces; all runs go through the tokenizer together."""
        split = [self.split(row) for row in rows]
        texts = [part for parts in split for part in parts if isinstance(part, str)]
        new = [text for text in dict.fromkeys(texts) if text not in self._runs]
        normal = [self._normalized(text) for text in new]
        fresh = dict(
            zip(
                new,
                (e.ids for e in self._plain.encode_batch_fast(normal, add_special_tokens=False)),
                strict=True,
            )
        )
        # Scaffold runs are few, short and come again with every row; data runs are neither.
        for text, ids in fresh.items():
            if len(text) <= 200 and len(self._runs) < 256:
                self._runs[text] = ids
        out = []
        for parts in split:
            row: list[int] = []
            for part in parts:
                if isinstance(part, int):
                    row.append(part)
                else:
                    row.extend(self._runs.get(part) or fresh[part])
            out.append(row)
        return out

    def _normalized(self, text: str) -> str:
        """``text`` as the tokenizer's normalizer makes it. NFC, Qwen's, leaves nearly all text as
        it is; that is quickly seen here, and takes a tenth of all time in the tokenizer."""
        if self._normalizer is None or (self._is_nfc and unicodedata.is_normalized("NFC", text)):
            return text
        return str(self._normalizer.normalize_str(text))

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text, without control tokens."""
        return self.encode([Piece(text, data=True)])

    def scaffold_ids(self, text: str) -> list[int]:
        """Token ids of scaffold text such as ``<|im_start|>think``."""
        return self.encode([Piece(text)])

    def control_id(self, delimiter: str) -> int | None:
        """The id by which ``delimiter`` is seen in a stream of tokens: its only one (added or
        not), or the first of several if that is an added token; None if there is no such id."""
        first = self.split([Piece(delimiter)])[0]
        if isinstance(first, int):
            return first
        ids = self.scaffold_ids(delimiter)
        return ids[0] if len(ids) == 1 else None

    # -- prompts and rows -----------------------------------------------------------------

    @cached_property
    def template(self) -> _Template:
        """The chat template cut at the question and at the answer.

        Raises:
            ValueError: if the tokenizer has no chat template, or one that changes the text.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise ValueError(
                "the tokenizer has no chat template; set `chat_template:` in the axolotl config "
                "or use the tokenizer of an instruction-tuned model"
            )
        render = self.tokenizer.apply_chat_template
        asked = render(
            [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
        )
        turn = render(
            [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}],
            tokenize=False,
        )
        mark = _MARK if _MARK in asked else _MARK.strip()
        if asked.count(mark) != 1 or turn.count(mark) != 2:
            raise ValueError(
                "the chat template changes or repeats the messages it is given; "
                "s1-plugin needs one that writes user and assistant text as it is"
            )
        before, after = asked.split(mark)
        return _Template(before, after, turn.split(mark)[2], strips=mark != _MARK)

    def prompt_pieces(self, question: str, fmt: TraceFormat) -> list[Piece]:
        """The rendered user turn with the generation prompt, as in training and evaluation."""
        return self._prompt(self.template.before, question, fmt)

    def rendered_pieces(self, context: str, question: str, fmt: TraceFormat) -> list[Piece]:
        """A prompt that was rendered elsewhere (a system message may stand before it), cut so that
        the question is data.

        Raises:
            ValueError: if ``context`` does not end with the question as this template writes it.
        """
        tail = self._as_written(question) + self.template.after
        if not context.endswith(tail):
            raise ValueError(
                "the prompt does not end with the question in the tokenizer's chat template: "
                f"…{context[-80:]!r}"
            )
        return self._prompt(context[: -len(tail)], question, fmt)

    def _prompt(self, before: str, question: str, fmt: TraceFormat) -> list[Piece]:
        after = self.template.after
        # Some templates (R1 distillations) open the thinking themselves.
        for opening in (fmt.think_start + fmt.think_open, fmt.think_start):
            after = after.removesuffix(opening)
        return [Piece(before), Piece(self._as_written(question), data=True), Piece(after)]

    def _as_written(self, question: str) -> str:
        return question.strip() if self.template.strips else question

    def rows(self, records: Sequence[tuple[str, str, str]], fmt: TraceFormat) -> list[Encoded]:
        """Training rows for ``(question, thinking, answer)`` triples.

        The turn ends as the chat template ends it (``<|im_end|>\\n`` in ChatML), and all of it
        after the generation prompt is learned.
        """
        prompts, turns = [], []
        for question, thinking, answer in records:
            prompts.append(self.prompt_pieces(question, fmt))
            turns.append(
                [
                    Piece(fmt.think_start + fmt.think_open),
                    Piece(thinking.strip(), data=True),
                    Piece(fmt.think_close + fmt.answer_start + fmt.answer_open),
                    Piece(fmt.answer_text(answer), data=True),
                    Piece(self.template.closing),
                ]
            )
        opening = self.split([Piece(fmt.answer_start)])[0]
        encoded = []
        for prompt, turn in zip(self.encode_batch(prompts), self.encode_batch(turns), strict=True):
            answer_at = None
            if isinstance(opening, int):  # data holds no control tokens: the last one is ours
                answer_at = len(prompt) + len(turn) - 1 - turn[::-1].index(opening)
            encoded.append(Encoded(prompt + turn, len(prompt), answer_at))
        return encoded

    # -- checks ---------------------------------------------------------------------------

    def missing_tokens(self, fmt: TraceFormat) -> list[str]:
        """Ends and stops of ``fmt`` that no single token shows, those it calls optional apart."""
        needed = {*fmt.end_of_thinking, *fmt.stop} - {*fmt.optional}
        return sorted(token for token in needed if self.control_id(token) is None)

    def unfit(self, fmt: TraceFormat) -> str | None:
        """Why this tokenizer and its chat template cannot teach ``fmt``; None if they can."""
        missing = self.missing_tokens(fmt)
        if missing:
            return (
                f"the tokenizer has no single token for {', '.join(missing)}, which the format "
                f"{fmt.name!r} needs; use a model that has them (Qwen2.5 for s1, Qwen3 for "
                "think-tags), add them with `tokens:`, or choose another `s1.format`"
            )
        if not self.template.closing.startswith(fmt.stop):
            return (
                f"the chat template ends a turn with {self.template.closing!r}, and the format "
                f"{fmt.name!r} stops at {' or '.join(fmt.stop)}: the model would not learn to "
                "stop; use a ChatML template (`chat_template: chatml`)"
            )
        return None

    def _self_check(self) -> None:
        sample = "One. Two\n\nthree?  $x^2$\n"
        whole = self.tokenizer(sample, add_special_tokens=False)["input_ids"]
        if self.text_ids(sample) != list(whole):
            raise ValueError(
                f"{type(self.tokenizer).__name__} does not encode plain text the same way with "
                "and without its added tokens; s1-plugin supports byte-level BPE tokenizers "
                "(Qwen, Llama 3, DeepSeek, GPT)"
            )
        for token, token_id in self.added.items():
            if token_id in self.text_ids(token):
                raise ValueError(
                    f"the tokenizer turns the plain text {token!r} into the control token "
                    f"{token_id}: text from data could not be kept apart from control tokens"
                )


Decoder = Callable[[Sequence[int]], str]


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of ``ids``, special tokens kept, spaces untouched."""
    return tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def newline_test(tokenizer: Any) -> Callable[[int], bool]:
    """A cached test whether a token id's text ends with a newline."""
    known: dict[int, bool] = {}

    def ends_with_newline(token: int) -> bool:
        if token not in known:
            known[token] = decode(tokenizer, [token]).endswith("\n")
        return known[token]

    return ends_with_newline
