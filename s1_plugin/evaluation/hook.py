"""The generation hook: lm-eval hands all requests of all s1 tasks to `generate` at once.

lm-eval's evaluator calls ``getattr(lm, request_type)(requests)``. Our tasks use a request type of
their own, and `install` adds one method of that name to lm-eval's ``LM`` base class. Nothing of
lm-eval is overridden, and the driver is chosen by the model in use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1_plugin.encoding import Piece
from s1_plugin.forcing.budget import GEN_KWARGS, Budget

REQUEST_TYPE = "s1_budget_forcing"

#: Sampling arguments that are passed on to the engine as they are.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")
_OWN = (*GEN_KWARGS, "max_gen_toks", "seed", "format")
#: Accepted because lm-eval adds them by itself; the format says where generation stops.
_IGNORED = ("until",)


@dataclass(frozen=True)
class Request:
    """One response that is wanted."""

    prompt: tuple[Piece, ...]
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
    unknown = sorted(set(kwargs) - {*_OWN, *SAMPLING, *_IGNORED})
    if unknown:
        known = ", ".join((*_OWN, *SAMPLING))
        raise ValueError(f"unknown --gen_kwargs {', '.join(unknown)}; s1 tasks know {known}")
    before, found, after = context.rpartition(question)
    if not found:
        raise ValueError(
            "the question is not in the prompt as it is: the chat template changes user text; "
            "s1 tasks need one that does not"
        )
    sampling = {name: kwargs[name] for name in SAMPLING if kwargs.get(name) is not None}
    temperature = float(sampling.get("temperature", 0.0 if not sampling.get("do_sample") else 1.0))
    if temperature == 0.0:
        sampling = {"do_sample": False}
    else:
        if sampling.get("do_sample") is False:
            raise ValueError(
                f"do_sample=false contradicts temperature={temperature}; remove one of them"
            )
        sampling |= {"do_sample": True, "temperature": temperature}
    return Request(
        prompt=(Piece(before), Piece(question, data=True), Piece(after)),
        budget=Budget.from_gen_kwargs(kwargs),
        max_gen_toks=int(kwargs.get("max_gen_toks", 32768)),
        sampling=tuple(sorted(sampling.items())),
        seed=int(kwargs.get("seed", 0)),
        format=str(kwargs.get("format", "s1")),
        sample=sample,
    )


def generate(lm: Any, instances: list[Any]) -> list[str]:
    """Responses to ``instances``, in their order, each a JSON object in text.

    Text, because lm-eval turns what it logs into strings: a dictionary would be logged as Python
    source, this stays JSON.

    Raises:
        NotImplementedError: if forcing cannot act in this model, with the remedy.
    """
    from lm_eval.models.huggingface import HFLM

    seen: dict[int, int] = {}
    requests = []
    for instance in instances:
        # lm-eval repeats the very same instance object for `repeats` > 1
        sample = seen[id(instance)] = seen.get(id(instance), -1) + 1
        context, kwargs, question = instance.arguments
        requests.append(request(context, question, kwargs, sample))
    if isinstance(lm, HFLM):
        from s1_plugin.evaluation.hf import run

        return [json.dumps(r.to_json(), ensure_ascii=False) for r in run(lm, requests)]
    raise NotImplementedError(
        f"s1 tasks cannot force budgets in {type(lm).__name__} yet; use --model hf"
    )


def install() -> None:
    """Adds the request type to lm-eval's ``LM`` base class; harmless when done twice."""
    from lm_eval.api.model import LM

    if not hasattr(LM, REQUEST_TYPE):
        setattr(LM, REQUEST_TYPE, generate)
