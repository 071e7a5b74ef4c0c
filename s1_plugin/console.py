"""What the plugin says to the person at the terminal."""

from __future__ import annotations

import os
import re
import sys

#: Control characters but tab and newline (text could move the cursor, or rename the window), and
#: the marks that turn the direction of writing.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` of a model or a server with control characters spelt out, such as ``\\x1b``."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(message: str) -> None:
    """One line to standard error, from the first rank only (launchers set ``RANK``).

    Not through logging: axolotl drops INFO records of loggers that are not its own.
    """
    if int(os.environ.get("RANK", "0") or 0) == 0:
        print(f"[s1-plugin] {message}", file=sys.stderr, flush=True)
