"""What the plugin says to the person at the terminal."""

from __future__ import annotations

import os
import sys


def say(message: str) -> None:
    """One line to standard error, from the first rank only (launchers set ``RANK``).

    Not through logging: axolotl drops INFO records of loggers that are not its own.
    """
    if int(os.environ.get("RANK", "0") or 0) == 0:
        print(f"[s1-plugin] {message}", file=sys.stderr, flush=True)
