"""The generation hook: lm-eval hands all requests of all s1 tasks to `generate` at once.

lm-eval's evaluator calls ``getattr(lm, request_type)(requests)``. Our tasks use a request type of
their own, and `install` adds one method of that name to lm-eval's ``LM`` base class. Nothing of
lm-eval is overridden, and the driver is chosen by the model in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from s1_plugin.console import say
from s1_plugin.forcing.budget import GEN_KWARGS, Budget
from s1_plugin.forcing.control import CONTROL_KWARGS, Control
from s1_plugin.forcing.response import Response
from s1_plugin.formats import get_format

REQUEST_TYPE = "s1_budget_forcing"

#: Sampling arguments that are passed on to the engine as they are.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")
_UNFORCED = "allow_unforced"
_OWN = (*GEN_KWARGS, *CONTROL_KWARGS, "max_gen_toks", "seed", "format", _UNFORCED)
#: Accepted because lm-eval adds them by itself; the format says where generation stops.
_IGNORED = ("until",)

#: lm-eval's model class: the module whose ``run(lm, requests)`` forces budgets in it.
DRIVERS = {
    "HFLM": "s1_plugin.evaluation.hf",
    "LocalCompletionsAPI": "s1_plugin.evaluation.openai",
    "VLLM": "s1_plugin.evaluation.vllm",
}


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
        question: the document's text as it stands in ``context``; it is encoded as data.
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
    if kwargs.get(_UNFORCED) not in (None, True, False):
        raise ValueError(f"{_UNFORCED} must be true or false, got {kwargs[_UNFORCED]!r}")
    if not isinstance(context, str) and not kwargs.get(_UNFORCED):
        raise ValueError(
            "lm-eval has left the chat template to the server; budget forcing needs the rendered "
            "prompt: add tokenizer_backend=huggingface,tokenized_requests=True to --model_args"
        )
    budget = Budget.from_gen_kwargs(kwargs)
    if budget.control and budget.control.rejects:
        kwargs = _rejecting(kwargs)
    elif budget.control and isinstance(context, str):
        context, question = _instructed(context, question, budget.control)
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


def _instructed(context: str, question: str, control: Control) -> tuple[str, str]:
    """The prompt and the question with the control's sentence after the question."""
    asked = question if question in context else question.strip()
    before, found, after = context.rpartition(asked)
    if not found:
        return context, question  # the driver says what is wrong
    told = control.instruct(asked)
    return before + told + after, told


def _number(kwargs: Mapping[str, Any], name: str, kind: type, default: Any, least: float) -> Any:
    value = kwargs.get(name)
    if value is None:
        return default
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or value < least:
        what = "whole number" if kind is int else "number"
        raise ValueError(f"{name} must be a {what} >= {least}, got {value!r}")
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
    for name, kind in (("top_p", float), ("top_k", int), ("min_p", float)):
        if kwargs.get(name) is not None:
            how[name] = _number(kwargs, name, kind, None, least=0)
    if not temperature:
        if len(how) > 1:
            raise ValueError(
                f"{', '.join(sorted(set(how) - {'do_sample'}))} would have no effect without "
                "temperature; set temperature, or remove it for greedy decoding"
            )
        return how
    return how | {"temperature": temperature}


def generate(lm: Any, instances: list[Any]) -> list[str]:
    """Responses to ``instances``, in their order, each a JSON object in text.

    Text, because lm-eval turns what it logs into strings: a dictionary would be logged as Python
    source, this stays JSON.

    Raises:
        NotImplementedError: if forcing cannot act in this model, with the remedy.
        RuntimeError: if every single request failed.
    """
    from s1_plugin.evaluation import rejection

    asked = [bool(instance.arguments[1].get(_UNFORCED)) for instance in instances]
    run = _driver(lm, allow_unforced=any(asked) and all(asked))
    seen: dict[int, int] = {}
    requests = []
    for instance in instances:
        # lm-eval repeats the very same instance object for `repeats` > 1
        sample = seen[id(instance)] = seen.get(id(instance), -1) + 1
        context, kwargs, question = instance.arguments
        requests.append(request(context, question, kwargs, sample))
    responses = rejection.sample(lambda wanted: run(lm, wanted), requests)
    _tell_failures(responses)
    return [json.dumps(r.to_json(), ensure_ascii=False) for r in responses]


def _driver(lm: Any, allow_unforced: bool) -> Callable[[Any, Sequence[Request]], list[Response]]:
    kinds = [kind.__name__ for kind in type(lm).__mro__]
    # Chat endpoints, although lm-eval derives their class from the completions.
    if not any("Chat" in kind for kind in kinds):
        for kind in kinds:
            if kind in DRIVERS:
                return import_module(DRIVERS[kind]).run
    if allow_unforced:
        return import_module("s1_plugin.evaluation.unforced").run
    raise NotImplementedError(
        f"budgets cannot be forced in {type(lm).__name__}: forcing continues the model's own turn. "
        "Use --model hf, --model vllm, or --model local-completions with a server's "
        "/v1/completions; or ask without forcing, and have the results say so, with "
        f"{_UNFORCED}=true in --gen_kwargs"
    )


def _tell_failures(responses: Sequence[Response]) -> None:
    failed = [response for response in responses if response.ended == "failed"]
    if failed and len(failed) == len(responses):
        raise RuntimeError(f"all {len(failed)} requests failed; the first: {failed[0].error}")
    if failed:
        say(
            f"{len(failed)} of {len(responses)} requests failed for good and are left out of every "
            f"metric but `failed`; the first: {failed[0].error}"
        )


def install() -> None:
    """Adds the request type to lm-eval's ``LM`` base class; harmless when done twice."""
    from lm_eval.api.model import LM

    if not hasattr(LM, REQUEST_TYPE):
        setattr(LM, REQUEST_TYPE, generate)
