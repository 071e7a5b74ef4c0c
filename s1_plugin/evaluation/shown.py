"""Numbers as people see them: the same digits in the terminal, in curve.json and on the page."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal


def percent(share: float) -> float:
    """A share in per cent, as curve.json holds it. What is shown is rounded once, from this."""
    return round(100 * share, 6)


def fixed(value: float, digits: int = 1) -> str:
    """``value`` with so many decimals, rounded as the page's ``toFixed`` rounds: exact ties go
    away from zero (Python's own formatting lets them go to the even digit)."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def accuracy(share: float, error: float) -> str:
    """Accuracy ± standard error in per cent. Where all answers are right or all wrong the error's
    formula gives 0, which would claim certainty: there is none, only the interval."""
    text = fixed(percent(share))
    return f"{text} ± {fixed(percent(error))}" if error else text
