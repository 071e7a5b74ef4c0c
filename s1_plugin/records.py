"""Readers: from a row as published to one record of question, thinking and answer.

Pure Python. A reader names the columns it needs, so that `detect` can tell from the columns alone
which one fits; what it raises names the field and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Record(NamedTuple):
    """One worked example, whatever data set it came from."""

    question: str
    thinking: str
    answer: str


class BadRow(ValueError):
    """A row that cannot be learned from: which field, what is wrong, what to do."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"field {field!r} {problem}; {remedy}")
        self.field, self.problem, self.remedy = field, problem, remedy


Row = Mapping[str, Any]

_EMPTY_REMEDY = "fill it in or remove the row"


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if value is None:
        raise BadRow(field, "is missing", _EMPTY_REMEDY)
    if not isinstance(value, str):
        raise BadRow(field, f"is {type(value).__name__}, not text", "make it a string")
    if not value.strip():
        raise BadRow(field, "is empty", _EMPTY_REMEDY)
    return value


def _joined(row: Row, field: str) -> str:
    """Text, or s1K's list of strings joined with a newline as its authors join it."""
    value = row.get(field)
    if isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            if not isinstance(part, str):
                kind = "null" if part is None else type(part).__name__
                raise BadRow(field, f"holds {kind}, not text", "make it a list of strings")
        value = "\n".join(value)
        if not value.strip():
            raise BadRow(field, "is empty", _EMPTY_REMEDY)
        return value
    return _text(row, field)


# -- conversations ------------------------------------------------------------------------------

_MARKUP = (
    # DeepSeek-R1, OpenThoughts2/3, LIMO-v2 re-distillations
    re.compile(r"\s*<think>(?P<thinking>.*?)</think>(?P<answer>.*)", re.DOTALL),
    # OpenThoughts-114k, Sky-T1, Bespoke-Stratos
    re.compile(
        r"\s*<\|begin_of_thought\|>(?P<thinking>.*?)<\|end_of_thought\|>\s*"
        r"<\|begin_of_solution\|>(?P<answer>.*?)(?:<\|end_of_solution\|>\s*)?",
        re.DOTALL,
    ),
)
_USER = {"user", "human"}
_ASSISTANT = {"assistant", "gpt"}
_SYSTEM = {"system"}


def split_markup(text: str, field: str) -> tuple[str, str]:
    """Thinking and answer of one assistant message.

    Raises:
        BadRow: if neither ``<think>`` nor ``<|begin_of_thought|>`` markup encloses the thinking.
    """
    for pattern in _MARKUP:
        match = pattern.fullmatch(text)
        if match:
            # The blank lines at the tags are markup too: "Answer: " would be put before them.
            return match["thinking"].strip(), match["answer"].strip()
    raise BadRow(
        field,
        "has no complete <think>…</think> or <|begin_of_thought|>… markup",
        "remove the row, or name the columns with field_human, field_thinking and field_model",
    )


def _conversation(field: str, role_key: str, text_key: str) -> Callable[[Row], Record]:
    def read(row: Row) -> Record:
        messages = row.get(field)
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            raise BadRow(field, "is not a list of messages", "remove the row")
        turns: list[tuple[str, Any]] = []
        for number, message in enumerate(messages):
            if not isinstance(message, Mapping) or role_key not in message:
                raise BadRow(f"{field}[{number}]", f"has no {role_key!r}", "remove the row")
            role = str(message[role_key])
            if role in _USER | _ASSISTANT:
                turns.append((role, message))
            elif role not in _SYSTEM:
                raise BadRow(f"{field}[{number}]", f"has the role {role!r}", "remove the row")
            if message.get("tool_calls"):
                raise BadRow(f"{field}[{number}]", "calls tools", "remove the row")
        if len(turns) != 2 or turns[0][0] not in _USER or turns[1][0] not in _ASSISTANT:
            raise BadRow(
                field,
                "is not one user message followed by one assistant message",
                "split longer conversations into rows of their own",
            )
        question = _text(turns[0][1], text_key)
        thinking, answer = split_markup(_text(turns[1][1], text_key), f"{field}.{text_key}")
        return Record(question, thinking, answer)

    return read


def _system_message(field: str, role_key: str, text_key: str) -> Callable[[Row], bool]:
    def has(row: Row) -> bool:
        texts = [m.get(text_key) for m in row[field] if str(m[role_key]) in _SYSTEM]
        return any(isinstance(text, str) and text.strip() for text in [row.get("system"), *texts])

    return has


def columns(question: str, thinking: str, answer: str) -> Callable[[Row], Record]:
    """A reader for three named columns; thinking may be a string or a list of strings."""

    def read(row: Row) -> Record:
        return Record(_text(row, question), _joined(row, thinking), _text(row, answer))

    return read


@dataclass(frozen=True)
class Reader:
    """A published layout: its name, the columns that give it away, and how to read a row.

    ``has_system`` says of a row that was read whether it came with a system message. That is not
    trained on: a model is asked with the chat template's own, as the authors ask theirs.
    """

    name: str
    needs: frozenset[str]
    read: Callable[[Row], Record]
    has_system: Callable[[Row], bool] = lambda row: False


def _limo(row: Row) -> Record:
    """LIMO keeps the long trace in `solution` and the bare result in `answer`."""
    solution = _text(row, "solution")
    if "</think>" in solution:
        thinking, answer = split_markup(solution, "solution")
        return Record(_text(row, "question"), thinking, answer)
    # Arrow types a column of digits as integers.
    if isinstance(row["answer"], int) and not isinstance(row["answer"], bool):
        row = {**row, "answer": str(row["answer"])}
    return Record(_text(row, "question"), solution, _text(row, "answer"))


#: In the order in which they are tried: s1K-1.1 has columns of s1K as well.
READERS: tuple[Reader, ...] = (
    Reader(
        "s1K-1.1",
        frozenset({"question", "deepseek_thinking_trajectory", "deepseek_attempt"}),
        columns("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
    ),
    Reader(
        "s1K",
        frozenset({"question", "thinking_trajectories", "attempt"}),
        columns("question", "thinking_trajectories", "attempt"),
    ),
    Reader(
        "conversations",
        frozenset({"conversations"}),
        _conversation("conversations", "from", "value"),
        _system_message("conversations", "from", "value"),
    ),
    Reader(
        "messages",
        frozenset({"messages"}),
        _conversation("messages", "role", "content"),
        _system_message("messages", "role", "content"),
    ),
    Reader("LIMO", frozenset({"question", "solution", "answer"}), _limo),
)


def detect(column_names: Sequence[str], source: str) -> Reader:
    """The reader for a data set with these columns.

    Raises:
        ValueError: if no known layout fits; names the columns found and the remedy.
    """
    found = set(column_names)
    for reader in READERS:
        if reader.needs <= found:
            return reader
    known = "; ".join(f"{r.name}: {', '.join(sorted(r.needs))}" for r in READERS)
    raise ValueError(
        f"{source}: no known trace layout has the columns {sorted(found)}. "
        f"Known layouts are {known}. For any other, name the three columns in the config under "
        "this data set: field_human (question), field_thinking (trace), field_model (answer)."
    )


def mapped(question: str, thinking: str, answer: str, column_names: Sequence[str], source: str):
    """A reader for the columns that a config names.

    Raises:
        ValueError: if one of them is not in the data.
    """
    absent = [name for name in (question, thinking, answer) if name not in column_names]
    if absent:
        raise ValueError(
            f"{source}: the config names the columns {absent}, which are not there; "
            f"the data have {sorted(column_names)}"
        )
    return Reader("named columns", frozenset(), columns(question, thinking, answer))


def check_learnable(record: Record, answer_text: str) -> None:
    """Refuses what stripping leaves empty.

    Raises:
        BadRow: naming the field.
    """
    for field, text in (
        ("question", record.question),
        ("thinking", record.thinking),
        ("answer", answer_text),
    ):
        if not text.strip():
            raise BadRow(field, "is empty", _EMPTY_REMEDY)
