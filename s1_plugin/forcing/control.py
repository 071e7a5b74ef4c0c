"""The paper's other ways to control thinking: a sentence in the prompt, or rejection sampling.

They are what budget forcing is compared with (https://arxiv.org/abs/2501.19393, section 5.1). The
sentences are those of the authors' evaluation, word for word, because a comparison with their
figures would mean nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Names in lm-eval's ``--gen_kwargs``.
CONTROL_KWARGS = ("control", "control_limit")

#: Rejection sampling gives a question up after as many samples.
MOST_TRIES = 64

_COUNTED = {"token": "Think for up to {} tokens.", "step": "Think for up to {} steps."}
_CLASSES = {
    "short": (
        "Answer after a short amount of thinking. Do not spend excessive time double-checking "
        "your work."
    ),
    "long": (
        "Answer after a long amount of thinking. If you feel like you are finished early, spend "
        "the extra time trying to double-check your work until you are absolutely sure that you "
        "have the correct answer."
    ),
}


@dataclass(frozen=True)
class Control:
    """One control method and its limit.

    Attributes:
        method: ``token`` and ``step`` tell the model how many tokens or steps it may think,
            ``class`` to think a short or a long time; ``rejection`` samples until the thinking
            is no longer than the limit.
        limit: tokens or steps; ``short`` or ``long`` for ``class``.

    Raises:
        ValueError: for an unknown method, or a limit that does not go with it.
    """

    method: str
    limit: int | str

    def __post_init__(self) -> None:
        if self.method == "class":
            good = self.limit in _CLASSES
            wanted = "short or long"
        elif self.method in (*_COUNTED, "rejection"):
            good = (
                isinstance(self.limit, int) and not isinstance(self.limit, bool) and self.limit > 0
            )
            wanted = "a whole number > 0"
        else:
            raise ValueError(
                f"control must be token, step, class or rejection, got {self.method!r}"
            )
        if not good:
            raise ValueError(
                f"control={self.method} needs control_limit to be {wanted}, got {self.limit!r}"
            )

    @classmethod
    def from_gen_kwargs(cls, kwargs: Mapping[str, Any]) -> Control | None:
        """The control asked for in ``--gen_kwargs``, None if there is none."""
        method, limit = (kwargs.get(name) for name in CONTROL_KWARGS)
        if method is None:
            if limit is not None:
                raise ValueError("control_limit has no effect without control; set control")
            return None
        return cls(str(method), limit)  # type: ignore[arg-type]  # a missing limit is refused

    @property
    def rejects(self) -> bool:
        """Responses are sampled until they fit."""
        return self.method == "rejection"

    @property
    def label(self) -> str:
        """Short name for metrics and plots, such as ``token1024`` or ``class-short``."""
        return f"{self.method}{'-' if self.method == 'class' else ''}{self.limit}"

    @property
    def sentence(self) -> str:
        """What the model is told; empty for rejection sampling."""
        if self.method == "class":
            return _CLASSES[str(self.limit)]
        return _COUNTED.get(self.method, "").format(self.limit)

    def instruct(self, question: str) -> str:
        """``question`` with the sentence after it, once."""
        told = f"\n\n{self.sentence}" if self.sentence else ""
        return question.removesuffix(told) + told
