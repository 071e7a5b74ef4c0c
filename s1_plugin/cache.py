"""Where what is kept between runs lies: answers, judged answers, stages of curation."""

from __future__ import annotations

import os
from pathlib import Path

#: Names another folder.
VARIABLE = "S1_CACHE"


def folder(kind: str) -> Path:
    """The folder for one kind of things: of `VARIABLE`, else where a user's caches are."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given) / kind
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "s1-plugin" / kind
