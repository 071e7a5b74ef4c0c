"""Several budgets in one `--gen_kwargs`.

Lists stand for a set of runs. Caps are run without Waits and Waits under the automatic cap, as
the paper draws its curve; a list of both is the two sets joined, not their product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CAP, _WAITS, _LIMIT = "max_tokens_thinking", "thinking_n_ignore", "control_limit"
_TEXT, _LEAST = "thinking_n_ignore_str", "min_tokens_thinking"


def expand(kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One dictionary of generation arguments per budget asked for, none twice.

    ``{"max_tokens_thinking": [500, 1000, "auto"], "thinking_n_ignore": [2, 4]}`` asks for five
    runs: the three caps without Waits, and two and four Waits under ``auto``. With one list, the
    other setting holds for all of its runs. A list of ``control_limit`` is one run each, and no
    other setting may be a list then.

    Raises:
        ValueError: for lists that hold anything but whole numbers and words, or nothing at all, and
            for a Wait string that no run would put in.
    """
    for name in (_CAP, _WAITS, _LIMIT):
        _check(name, kwargs.get(name))
    limits = kwargs.get(_LIMIT)
    if isinstance(limits, (list, tuple)):
        if any(isinstance(kwargs.get(name), (list, tuple)) for name in (_CAP, _WAITS)):
            raise ValueError(f"a list of {_LIMIT} goes with a single {_CAP} and {_WAITS}")
        return [run for n in dict.fromkeys(limits) for run in expand({**kwargs, _LIMIT: n})]
    caps, waits = kwargs.get(_CAP, "auto"), kwargs.get(_WAITS, 0)
    if isinstance(caps, (list, tuple)) and isinstance(waits, (list, tuple)):
        pairs = [(cap, 0) for cap in caps] + [("auto", n) for n in waits]
    elif isinstance(caps, (list, tuple)):
        pairs = [(cap, waits) for cap in caps]
    elif isinstance(waits, (list, tuple)):
        pairs = [(caps, n) for n in waits]
    else:
        pairs = [(caps, waits)]
    prolonged = kwargs.get(_LEAST) or any(n != 0 for _, n in pairs)
    if kwargs.get(_TEXT) is not None and not prolonged:
        raise ValueError(
            f"{_TEXT} has no effect without Waits: set {_WAITS} (how many) or {_LEAST} (until "
            f"when), or remove {_TEXT}"
        )
    return [{**kwargs, _CAP: cap, _WAITS: n} for cap, n in dict.fromkeys(pairs)]


def _check(name: str, value: Any) -> None:
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(f"an empty list for {name} asks for no run at all")
        # Truth values would count as the numbers 1 and 0 below, where none is run twice.
        wrong = [x for x in value if isinstance(x, bool) or not isinstance(x, (int, str))]
        if wrong:
            raise ValueError(
                f"{name} may be one value or a list of whole numbers or words, but holds "
                f"{wrong[0]!r}"
            )
    elif isinstance(value, (Mapping, set)):
        raise ValueError(f"{name} may be one value or a list, got {value!r}")
