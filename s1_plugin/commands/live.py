"""Tokens on a terminal as they come: whole characters, and nothing that steers the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from s1_plugin.console import printable

#: What a decoder writes for a character that is not whole, and how many tokens are held back for
#: its rest (a character takes four at most, but what ends so may be no character at all).
_BROKEN, _MOST_HELD = "\ufffd", 64


class Live:
    """Writes tokens as text; forced ones stand out.

    Args:
        decode: the text of token ids.
        write: takes each piece of text.
        colour: show forced text in reverse, else between ``[[`` and ``]]``.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        write: Callable[[str], None],
        colour: bool,
    ) -> None:
        self.decode, self.write, self.colour = decode, write, colour
        self._pending: list[int] = []
        self._forced = False

    def token(self, token: int, forced: bool) -> None:
        """One token more."""
        if forced != self._forced:
            self._flush()
            self._mark(forced)
        self._pending.append(token)
        if not self.decode(self._pending).endswith(_BROKEN) or len(self._pending) >= _MOST_HELD:
            self._flush()

    def end(self) -> None:
        """Nothing more comes."""
        self._flush()
        self._mark(False)

    def _flush(self) -> None:
        if not self._pending:
            return
        text = printable(self.decode(self._pending))
        self._pending = []
        if self._forced and self.colour:
            # Line by line: a terminal would colour the rest of a line that is broken in reverse.
            text = "\n".join(click.style(t, reverse=True) if t else t for t in text.split("\n"))
        self.write(text)

    def _mark(self, forced: bool) -> None:
        if forced != self._forced and not self.colour:
            self.write("[[" if forced else "]]")
        self._forced = forced
