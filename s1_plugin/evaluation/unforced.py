"""Models in which budgets cannot be forced, asked all the same (``allow_unforced=true``).

Chat endpoints, for one: they do not let anyone continue the model's own turn. The responses say
that nothing was forced, and nothing is said of thinking tokens, which nobody counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s1_plugin.console import say
from s1_plugin.evaluation.answers import parts_of
from s1_plugin.evaluation.request import Request
from s1_plugin.forcing.response import Response
from s1_plugin.formats import FORMATS, get_format

ENDED = "unforced"


def run(lm: Any, requests: Sequence[Request]) -> list[Response]:
    """Responses to ``requests``, by lm-eval's own ``generate_until``; each budget is asked for as
    if there were none."""
    from lm_eval.api.instance import Instance

    say(
        f"WARNING: no budget is forced in {type(lm).__name__} (allow_unforced=true): the model is "
        "asked as it is, every response is marked `unforced`"
    )
    instances = []
    for i, request in enumerate(requests):
        how = {"max_gen_toks": request.max_gen_toks, **dict(request.sampling)}
        how["until"] = list(get_format(request.format).stop)
        arguments = (request.context, how)
        instances.append(Instance("generate_until", {}, arguments, i))
    texts = lm.generate_until(instances)
    return [_response(text, request) for text, request in zip(texts, requests, strict=True)]


def _response(text: str, request: Request) -> Response:
    """The model writes in whatever format it was taught, so the delimiters of all formats count,
    and so does a thinking that the prompt has opened (a chat endpoint does not show that)."""
    prompt = request.context.rstrip() if isinstance(request.context, str) else ""
    opened = [f.think_start for f in FORMATS.values() if prompt.endswith(f.think_start)]
    thinking, answer = parts_of("".join(opened) + text)
    return Response(
        text=text,
        thinking=thinking,
        answer=answer,
        thinking_tokens=0,
        answer_tokens=0,
        waits=0,
        ended=ENDED,
        finished="unknown",
        forced=[],
        forced_spans=[],
        natural_ends=[],
        token_ids=[],
    )
