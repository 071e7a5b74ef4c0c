"""Rejection sampling: sample until the thinking fits, again only what did not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from s1_plugin.console import say
from s1_plugin.evaluation.request import Request
from s1_plugin.forcing.control import MOST_TRIES
from s1_plugin.forcing.response import Response

Driver = Callable[[Sequence[Request]], list[Response]]


def sample(driver: Driver, requests: Sequence[Request]) -> list[Response]:
    """Responses to ``requests``; those under rejection sampling are drawn until they fit.

    A sample is cut one token over the limit, where it is certain that it does not fit: the law of
    those that fit is not touched by that. One that never fits has no answer.
    """
    found: dict[int, Response] = {}
    waiting = list(range(len(requests)))
    for attempt in range(MOST_TRIES):
        if not waiting:
            break
        responses = driver([_attempt(requests[i], attempt) for i in waiting])
        for i, response in zip(waiting, responses, strict=True):
            found[i] = replace(response, tries=attempt + 1)
        waiting = [i for i in waiting if _too_long(requests[i], found[i])]
    if waiting:
        say(
            f"rejection sampling: {len(waiting)} of {len(requests)} responses did not fit their "
            f"control_limit in {MOST_TRIES} tries and count as unanswered"
        )
    for i in waiting:
        found[i] = replace(found[i], answer=None, answer_tokens=0)
    return [found[i] for i in range(len(requests))]


def _attempt(request: Request, attempt: int) -> Request:
    """``request`` as it is put to the driver; every attempt has a random stream of its own."""
    control = request.budget.control
    if control is None or not control.rejects:
        return request
    return replace(
        request,
        budget=replace(request.budget, cap=int(control.limit) + 1, control=None),
        sample=request.sample * MOST_TRIES + attempt,
    )


def _too_long(request: Request, response: Response) -> bool:
    control = request.budget.control
    return control is not None and control.rejects and response.ended in ("cap", "context")
