"""The generation hook: lm-eval hands all requests of all s1 tasks to `generate` at once.

lm-eval's evaluator calls ``getattr(lm, request_type)(requests)``. Our tasks use a request type of
their own, and `install` adds one method of that name to lm-eval's ``LM`` base class. Nothing of
lm-eval is overridden, and the driver is chosen by the model in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from typing import Any

from s1_plugin.console import say
from s1_plugin.evaluation import rejection
from s1_plugin.evaluation.journal import journal_of
from s1_plugin.evaluation.request import UNFORCED, Request, request
from s1_plugin.forcing.response import Response

REQUEST_TYPE = "s1_budget_forcing"

#: lm-eval's model class: the module whose ``run(lm, requests)`` forces budgets in it.
DRIVERS = {
    "HFLM": "s1_plugin.evaluation.hf",
    "LocalCompletionsAPI": "s1_plugin.evaluation.openai",
    "OpenAICompletionsAPI": "s1_plugin.evaluation.openai",
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
    # First: a model in which nothing can be forced is refused as such, whatever else is asked.
    with _driver(lm, allow_unforced=any(asked) and all(asked)) as run:
        responses = rejection.sample(run, _requests(instances))
    _tell_failures(responses)
    return [json.dumps(r.to_json(), ensure_ascii=False) for r in responses]


def _requests(instances: list[Any]) -> list[Request]:
    seen: dict[int, int] = {}
    requests = []
    for instance in instances:
        # lm-eval repeats the very same instance object for `repeats` > 1
        sample = seen[id(instance)] = seen.get(id(instance), -1) + 1
        context, kwargs, question = instance.arguments
        requests.append(request(context, question, kwargs, sample))
    return requests


@contextmanager
def _driver(lm: Any, allow_unforced: bool) -> Iterator[rejection.Driver]:
    # The class itself: one derived from it generates in a way of its own (a steered model, a chat
    # endpoint), which a driver would go round.
    if type(lm).__name__ in DRIVERS:
        module = import_module(DRIVERS[type(lm).__name__])
        with closing(journal_of(module.identity(lm))) as journal:
            yield lambda wanted: module.run(lm, wanted, journal)
    elif allow_unforced:
        unforced = import_module("s1_plugin.evaluation.unforced")
        yield lambda wanted: unforced.run(lm, wanted)
    else:
        raise NotImplementedError(
            f"budgets cannot be forced in {type(lm).__name__}: forcing continues the model's own "
            "turn. Use --model hf, --model vllm, or --model local-completions with a server's "
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
