"""What one lm-eval instance asks for, read and checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from s1_plugin.forcing.budget import GEN_KWARGS, Budget
from s1_plugin.forcing.control import CONTROL_KWARGS, Control
from s1_plugin.formats import get_format

#: Sampling arguments that are passed on to the engine as they are.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")
UNFORCED = "allow_unforced"
_OWN = (*GEN_KWARGS, *CONTROL_KWARGS, "max_gen_toks", "seed", "format", UNFORCED)
#: Accepted because lm-eval adds them by itself; the format says where generation stops.
_IGNORED = ("until",)


@dataclass(frozen=True)
class Request:
    """One response that is wanted."""

    context: str
    question: str
    budget: Budget
    max_gen_toks: int
    sampling: tuple[tuple[str, Any], ...]
    seed: int
    format: str
    sample: int = 0


def request(context: str, question: str, kwargs: Mapping[str, Any], sample: int = 0) -> Request:
    """What one lm-eval instance asks for.

    Args:
        context: the rendered prompt, up to and with the generation prompt.
        question: the document's text as it stands in ``context``; it is encoded as data. A control
            method's sentence follows it in both; it is put there if it does not.
        kwargs: the task's ``generation_kwargs`` with ``--gen_kwargs`` merged in.
        sample: which of several samples of the same prompt.

    Raises:
        ValueError: for unknown arguments, naming those there are.
    """
    known = (*_OWN, *SAMPLING)
    unknown = sorted(set(kwargs) - {*known, *_IGNORED})
    if unknown:
        near = [name for wrong in unknown for name in get_close_matches(wrong, known, n=1)]
        meant = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ValueError(
            f"unknown --gen_kwargs {', '.join(unknown)}{meant}; s1 tasks know {', '.join(known)}"
        )
    if kwargs.get(UNFORCED) not in (None, True, False):
        raise ValueError(f"{UNFORCED} must be true or false, got {kwargs[UNFORCED]!r}")
    if not isinstance(context, str) and not kwargs.get(UNFORCED):
        raise ValueError(
            "lm-eval has left the chat template to the server; budget forcing needs the rendered "
            "prompt: add tokenizer_backend=huggingface,tokenized_requests=True to --model_args"
        )
    budget = Budget.from_gen_kwargs(kwargs)
    if budget.control and kwargs.get(UNFORCED):
        raise ValueError(
            f"control={budget.control.method} is not applied where nothing is forced: remove "
            f"control and control_limit, or remove {UNFORCED} and use --model hf, --model vllm, or "
            "--model local-completions"
        )
    if budget.control and budget.control.rejects:
        kwargs = _rejecting(kwargs)
    context, question = instructed(context, question, budget.control)
    return Request(
        context=context,
        question=question,
        budget=budget,
        max_gen_toks=_number(kwargs, "max_gen_toks", int, 32768, least=1),
        sampling=tuple(sorted(_sampling(kwargs).items())),
        seed=_number(kwargs, "seed", int, 0, least=0),
        format=get_format(str(kwargs.get("format", "s1"))).name,
        sample=sample,
    )


def _rejecting(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """``kwargs`` with the paper's temperature of 1 where none is set."""
    if kwargs.get("temperature") is None and kwargs.get("do_sample") is None:
        return {**kwargs, "temperature": 1.0}
    if not kwargs.get("temperature", kwargs.get("do_sample")):
        raise ValueError("control=rejection samples again: greedy decoding would never change")
    return dict(kwargs)


def instructed(context: str, question: str, control: Control | None) -> tuple[str, str]:
    """The prompt and the question with the control's sentence after the question, once: what has
    the sentence already is returned as it is."""
    if control is None or not control.sentence or not isinstance(context, str):
        return context, question
    asked = question if question in context else question.strip()
    before, found, after = context.rpartition(asked)
    if not found:
        return context, question  # the driver says what is wrong
    told = control.instruct(asked)
    return before + told + after, told


def _number(
    kwargs: Mapping[str, Any],
    name: str,
    kind: type,
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> Any:
    """The finite number called ``name``, at least ``least``, above ``above``, at most ``most``."""
    value = kwargs.get(name)
    if value is None:
        return default
    allowed = (int,) if kind is int else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, allowed)
        # False for nan, and for what no float can hold.
        or (kind is float and not abs(value) <= sys.float_info.max)
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
    ):
        what = "whole number" if kind is int else "finite number"
        bounds = [
            f"{sign} {bound}"
            for sign, bound in ((">=", least), (">", above), ("<=", most))
            if bound is not None
        ]
        raise ValueError(f"{name} must be a {what} {' and '.join(bounds)}, got {value!r}")
    return kind(value)


def _sampling(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``generate``; what would be ignored is refused."""
    wanted = kwargs.get("do_sample")
    if wanted not in (None, True, False):
        raise ValueError(f"do_sample must be true or false, got {wanted!r}")
    temperature = _number(kwargs, "temperature", float, 1.0 if wanted else 0.0, least=0)
    if wanted is not None and wanted != (temperature > 0):
        raise ValueError(
            f"do_sample={wanted} contradicts temperature={temperature}; remove one of them"
        )
    how: dict[str, Any] = {"do_sample": temperature > 0}
    cuts = {
        "top_p": _number(kwargs, "top_p", float, None, above=0, most=1),
        "top_k": _number(kwargs, "top_k", int, None, least=0),
        "min_p": _number(kwargs, "min_p", float, None, least=0, most=1),
    }
    how |= {name: value for name, value in cuts.items() if value is not None}
    if not temperature:
        if len(how) > 1:
            raise ValueError(
                f"{', '.join(sorted(set(how) - {'do_sample'}))} would have no effect without "
                "temperature; set temperature, or remove it for greedy decoding"
            )
        return how
    return how | {"temperature": temperature}
