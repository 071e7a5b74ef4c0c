"""One trajectory, many budgets: requests that differ in cap and Waits alone share one thinking.

The thinking under a budget is a prefix of that under any larger one. So it is generated once, under
the largest budget of a family, and only the answers are generated apart; budgets that come to the
same text share the answer, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from s1_plugin.encoding import TextEncoder, decode
from s1_plugin.evaluation.request import Request
from s1_plugin.forcing.budget import Plan, plan
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking, replay
from s1_plugin.formats import get_format


@dataclass
class Job:
    """One sequence to generate.

    Attributes:
        prompt: token ids, the thinking prefix included.
        begun: the state and the tokens of a thinking that is there already.
        state: what has watched the thinking, once it is made.
        response: what came of it.
    """

    request: Request
    prompt: list[int]
    plan: Plan
    begun: tuple[Thinking, list[int]] | None = None
    state: Thinking | None = None
    response: Response | None = None

    @property
    def input_ids(self) -> list[int]:
        """Everything before the first token that is to be generated."""
        return self.prompt + (self.begun[1] if self.begun else [])


def job_of(request: Request, encoder: TextEncoder, context: int | None) -> Job:
    """``request`` in token ids.

    Raises:
        ValueError: if the budget cannot be planned for this prompt, tokenizer or context.
    """
    fmt = get_format(request.format)
    prompt = encoder.encode(encoder.rendered_pieces(request.context, request.question, fmt))
    planned = plan(
        request.budget,
        encoder,
        fmt,
        prompt_length=len(prompt),
        max_new_tokens=request.max_gen_toks,
        context=context,
    )
    return Job(request, prompt + encoder.scaffold_ids(fmt.think_start), planned)


def family(request: Request, prompt: Sequence[int], planned: Plan) -> tuple:
    """What requests must have in common to share a thinking: all but cap and Waits."""
    return (
        tuple(prompt),
        request.sampling,
        request.seed,
        request.format,
        request.sample,
        replace(planned, cap=0, waits=0, context_bound=False),
    )


def largest(plans: Sequence[Plan]) -> Plan:
    """The budget of which all others in a family are prefixes."""
    top = max(plans, key=lambda planned: (planned.cap, planned.waits))
    return replace(top, waits=max(planned.waits for planned in plans))


def retold(response: Response, state: Thinking, encoder: TextEncoder, think_start: str) -> Response:
    """``response``'s tokens as the response to a budget that came to the same text otherwise (a
    newline drawn under one cap is forced under a smaller one)."""
    return Response.from_tokens(
        response.token_ids,
        state,
        decode=lambda ids: decode(encoder.tokenizer, ids),
        think_start=think_start,
        finished=response.finished,
    )


def share(
    wanted: Sequence[Job],
    make: Callable[[Sequence[Job]], None],
    encoder: TextEncoder,
    ends_with_newline: Callable[[int], bool],
    count: Callable[[int], object] = lambda done: None,
) -> list[Response]:
    """Responses to ``wanted``, in order.

    Args:
        make: generates what jobs lack (all, or the answer alone if they have ``begun``), filling in
            ``state`` and ``response``.
        count: told how many more responses are there.
    """
    families: dict[tuple, list[Job]] = defaultdict(list)
    for job in wanted:
        families[family(job.request, job.prompt, job.plan)].append(job)
    longest = [
        Job(jobs[0].request, jobs[0].prompt, largest([job.plan for job in jobs]))
        for jobs in families.values()
    ]
    make(longest)
    rest: dict[tuple, list[Job]] = defaultdict(list)
    for (key, jobs), job in zip(families.items(), longest, strict=True):
        assert job.state is not None
        for member in jobs:
            if member.plan == job.plan:
                member.response = job.response
                count(1)
                continue
            member.begun = replay(member.plan, ends_with_newline, job.state.draws)
            rest[(key, tuple(member.begun[1]))].append(member)
    make([jobs[0] for jobs in rest.values()])
    for first, *others in rest.values():
        count(1 + len(others))
        for job in others:
            assert first.response is not None and job.begun is not None
            start = get_format(job.request.format).think_start
            job.response = retold(first.response, job.begun[0], encoder, start)
    return [job.response for job in wanted if job.response is not None]
