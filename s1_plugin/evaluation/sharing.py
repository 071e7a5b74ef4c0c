"""One trajectory, many budgets: requests that differ in cap and Waits alone share one thinking.

The thinking under a budget is a prefix of that under any larger one. So it is generated once, under
the largest budget of a family, and only the answers are generated apart; budgets that come to the
same text share the answer, too. What a `Journal` holds is not generated at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from s1_plugin.console import say
from s1_plugin.encoding import TextEncoder, decode
from s1_plugin.evaluation.journal import Answer, Journal, Trajectory, digest
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
        family: the name of what it shares with others (`family`).
        members: the jobs whose thinking this is; empty for an answer alone.
    """

    request: Request
    prompt: list[int]
    plan: Plan
    begun: tuple[Thinking, list[int]] | None = None
    state: Thinking | None = None
    response: Response | None = None
    family: str = ""
    members: list[Job] = field(default_factory=list, repr=False)

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


def family(request: Request, prompt: Sequence[int], planned: Plan) -> str:
    """Names what requests must have in common to share a thinking: all but cap and Waits."""
    shared = replace(planned, cap=0, waits=0, context_bound=False)
    return digest(
        [
            list(prompt),
            request.sampling,
            request.seed,
            request.format,
            request.sample,
            asdict(shared),
        ]
    )


def largest(plans: Sequence[Plan]) -> Plan:
    """The budget of which all others in a family are prefixes."""
    top = max(plans, key=lambda planned: (planned.cap, planned.waits))
    return replace(top, waits=max(planned.waits for planned in plans))


def response_of(
    job: Job, tokens: Sequence[int], state: Thinking, finished: str, encoder: TextEncoder
) -> Response:
    """The response to ``job`` whose tokens ``state`` has watched."""
    return Response.from_tokens(
        tokens,
        state,
        decode=lambda ids: decode(encoder.tokenizer, ids),
        think_start=get_format(job.request.format).think_start,
        finished=finished,
    )


class Work:
    """What has to be generated for ``wanted``, handed out job by job, and what comes of it.

    A driver generates what `begin` returns, gives every job to `finished` as soon as it has its
    state and response, and generates what that returns: answers that fork off the thinking, while
    its prefix is still cached.

    Args:
        wanted: one job per response.
        journal: what is there already, and where all that is finished is kept; None for neither.

    Attributes:
        done: how many responses are there.
        thinking_tokens, answer_tokens: of what was generated (forced tokens included).
        count: called with the number of responses whenever some more are there.
    """

    def __init__(
        self,
        wanted: Sequence[Job],
        encoder: TextEncoder,
        ends_with_newline: Callable[[int], bool],
        journal: Journal | None = None,
    ) -> None:
        self.wanted = wanted
        self.encoder, self.ends_with_newline, self.journal = encoder, ends_with_newline, journal
        self.done = 0
        self.thinking_tokens = self.answer_tokens = 0
        self.count: Callable[[int], object] = lambda more: None
        #: The jobs that wait for the same answer, by family and thinking.
        self._waiting: dict[tuple[str, str], list[Job]] = {}

    def begin(self) -> list[Job]:
        """The longest thinking of each family; the answers alone where the journal has that."""
        families: dict[str, list[Job]] = defaultdict(list)
        for job in self.wanted:
            job.family = family(job.request, job.prompt, job.plan)
            families[job.family].append(job)
        todo = []
        for name, members in families.items():
            top = largest([job.plan for job in members])
            kept = self.journal.trajectory(name, top.cap, top.waits) if self.journal else None
            if kept:
                todo += self._fork(members, kept.draws)
            else:
                first = members[0]
                todo.append(Job(first.request, first.prompt, top, family=name, members=members))
        if self.journal and self.done:
            say(
                f"{self.done} of {len(self.wanted)} responses were generated before and are taken "
                f"from {self.journal.folder} (remove that folder to generate them anew)"
            )
        return todo

    def finished(self, job: Job) -> list[Job]:
        """Takes a job that has its state and response; returns the answers that are due now."""
        state, response = job.state, job.response
        assert state is not None and response is not None
        self.answer_tokens += response.answer_tokens
        if not job.members:
            assert job.begun is not None
            thinking, answer = self._keep(job, len(job.begun[1]), response)
            for waiting in self._waiting.pop((job.family, thinking)):
                if waiting is job:
                    self._set(job, response)
                else:
                    self._tell(waiting, answer, response.error)
            return []
        self.thinking_tokens += response.thinking_tokens
        own = None
        if state.answer_at is not None:
            own = self._keep(job, state.answer_at, response, state)
        return self._fork(job.members, state.draws, own, response)

    def responses(self) -> list[Response]:
        """All responses, in the order of the jobs; says what sharing has saved."""
        if len({job.family for job in self.wanted}) < len(self.wanted):
            asked = [job.response for job in self.wanted if job.response]
            say(
                f"{len(asked)} responses hold {sum(r.thinking_tokens for r in asked):,} thinking "
                f"and {sum(r.answer_tokens for r in asked):,} answer tokens; generated were "
                f"{self.thinking_tokens:,} and {self.answer_tokens:,}"
            )
        missing = [job for job in self.wanted if job.response is None]
        if missing:
            raise RuntimeError(f"{len(missing)} requests have not been answered: {missing[0]}")
        return [job.response for job in self.wanted if job.response is not None]

    def _fork(
        self,
        members: Sequence[Job],
        draws: Sequence[int],
        own: tuple[str, Answer] | None = None,
        longest: Response | None = None,
    ) -> list[Job]:
        """Answers the members whose answers are known; returns jobs for those that are not."""
        todo = []
        for job in members:
            try:
                job.begun = replay(job.plan, self.ends_with_newline, draws)
            except ValueError:
                if longest is None or not longest.error:
                    raise
                # the shared thinking failed before this budget was used up
                self._set(job, longest)
                continue
            key = job.family, digest(job.begun[1])
            if own and own[0] == key[1]:
                self._tell(job, own[1], longest.error if longest else "")
            elif key in self._waiting:
                self._waiting[key].append(job)
            elif self.journal and (known := self.journal.answer(*key)):
                self._tell(job, known)
            else:
                self._waiting[key] = [job]
                todo.append(job)
        return todo

    def _keep(
        self, job: Job, length: int, response: Response, state: Thinking | None = None
    ) -> tuple[str, Answer]:
        """The digest of the thinking, ``length`` tokens, and the answer after it, written down if
        nothing failed."""
        thinking = digest(response.token_ids[:length])
        answer = Answer(response.token_ids[length:], response.finished)
        if self.journal and not response.error:
            whole = None
            if state is not None:
                whole = Trajectory(job.plan.cap, job.plan.waits, state.draws)
            self.journal.add(job.family, thinking, answer, whole)
        return thinking, answer

    def _tell(self, job: Job, answer: Answer, error: str = "") -> None:
        """Gives ``job`` its response. Budgets that come to the same text count it each in its own
        way: a newline drawn under one cap is forced under a smaller one."""
        assert job.begun is not None
        state, thinking = job.begun
        tokens = [*thinking, *answer.token_ids]
        response = response_of(job, tokens, state, answer.finished, self.encoder)
        self._set(job, response.failed(error) if error else response)

    def _set(self, job: Job, response: Response) -> None:
        job.response = response
        self.done += 1
        self.count(1)
