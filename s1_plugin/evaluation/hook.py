"""The generation hook: lm-eval hands all requests of all s1 tasks to `generate` at once.

lm-eval's evaluator calls ``getattr(lm, request_type)(requests)``. Our tasks use a request type of
their own, and `install` adds one method of that name to lm-eval's ``LM`` base class. Nothing of
lm-eval is overridden, and the driver is chosen by the model in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from s1_plugin.console import say
from s1_plugin.evaluation import rejection
from s1_plugin.evaluation.request import UNFORCED, Request, request
from s1_plugin.forcing.response import Response

REQUEST_TYPE = "s1_budget_forcing"

#: lm-eval's model class: the module whose ``run(lm, requests)`` forces budgets in it.
DRIVERS = {
    "HFLM": "s1_plugin.evaluation.hf",
    "LocalCompletionsAPI": "s1_plugin.evaluation.openai",
    "VLLM": "s1_plugin.evaluation.vllm",
}


def generate(lm: Any, instances: list[Any]) -> list[str]:
    """Responses to ``instances``, in their order, each a JSON object in text.

    Text, because lm-eval turns what it logs into strings: a dictionary would be logged as Python
    source, this stays JSON.

    Raises:
        NotImplementedError: if forcing cannot act in this model, with the remedy.
        RuntimeError: if every single request failed.
    """
    asked = [bool(instance.arguments[1].get(UNFORCED)) for instance in instances]
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
        f"{UNFORCED}=true in --gen_kwargs"
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
