"""What is generated, what is shared, and what a journal makes superfluous."""

import random

import pytest

from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.journal import Journal
from s1_plugin.evaluation.request import request
from s1_plugin.evaluation.sharing import Work, job_of
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import get_format

SETS = {"max_tokens_thinking": [4, 9, 20, "auto"], "thinking_n_ignore": [1, 3], "max_gen_toks": 200}


@pytest.fixture(scope="module")
def encoder(nano_base):
    from transformers import AutoTokenizer

    return TextEncoder(AutoTokenizer.from_pretrained(nano_base))


def jobs(encoder, questions=("1+1", "2+2", "3+3"), **kwargs):
    template = encoder.tokenizer.apply_chat_template
    found = []
    for question in questions:
        chat = [{"role": "user", "content": question}]
        context = template(chat, tokenize=False, add_generation_prompt=True)
        for how in expand({**SETS, **kwargs}):
            found.append(job_of(request(context, question, how), encoder, 1024))
    return found


class Driver:
    """A model whose next token is a function of the tokens before it; counts what it draws."""

    def __init__(self, encoder, stop_after=None):
        self.encoder, self.drawn, self.left = encoder, 0, stop_after
        self.words = encoder.text_ids("0123456789\n")
        self.end = encoder.scaffold_ids("<|im_end|>")

    def token(self, ids):
        chance = random.Random(str(ids))
        self.drawn += 1
        return chance.choice(self.words * 2 + self.end)

    def make(self, job, work):
        state, tokens = job.begun or (Thinking(job.plan, work.ends_with_newline), [])
        tokens = list(tokens)
        while len(tokens) < job.plan.max_new_tokens:
            token = state.due()
            if token is None:
                token = self.token([*job.prompt, *tokens])
                if state.must_not_end() and token in job.plan.end_ids:
                    token = self.words[0]
            if state.answering and token in job.plan.stop_ids:
                break
            tokens.append(state.push(token))
        job.state = state
        job.response = Response.from_tokens(
            tokens,
            state,
            decode=self.encoder.tokenizer.decode,
            think_start=get_format("s1").think_start,
            finished="stop" if len(tokens) < job.plan.max_new_tokens else "length",
        )

    def run(self, wanted, journal=None):
        work = Work(wanted, self.encoder, newline_test(self.encoder.tokenizer), journal)
        todo = work.begin()
        while todo:
            job = todo.pop()
            self.make(job, work)
            todo += work.finished(job)
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
        return work


def test_every_budget_gets_what_it_gets_alone(encoder):
    driver = Driver(encoder)
    work = driver.run(jobs(encoder))
    shared = work.responses()
    assert work.done == len(shared) == 18
    alone = Driver(encoder)
    assert shared == [alone.run([job]).responses()[0] for job in jobs(encoder)]
    assert driver.drawn < alone.drawn / 1.5
    assert work.thinking_tokens == sum(
        max(r.thinking_tokens for r in shared[i : i + 6]) for i in (0, 6, 12)
    )


def test_budgets_of_different_tasks_share_as_well(encoder):
    one, two = Driver(encoder), Driver(encoder)
    one.run(jobs(encoder))
    twice = two.run([*jobs(encoder), *jobs(encoder)]).responses()
    assert one.drawn == two.drawn and twice[:18] == twice[18:]


def test_samples_of_a_question_do_not_share(encoder):
    seeds = Driver(encoder)
    work = seeds.run(
        [*jobs(encoder, seed=1, temperature=1.0), *jobs(encoder, seed=2, temperature=1.0)]
    )
    assert len({job.family for job in work.wanted}) == 6


@pytest.mark.parametrize("kills", range(1, 12, 2))
def test_an_interrupted_run_goes_on_and_repeats_nothing(encoder, tmp_path, kills):
    calm = Driver(encoder)
    want = calm.run(jobs(encoder)).responses()
    drawn = 0
    for _ in range(50):
        driver = Driver(encoder, stop_after=kills)
        try:
            got = driver.run(jobs(encoder), Journal(tmp_path)).responses()
        except KeyboardInterrupt:
            drawn += driver.drawn
            continue
        drawn += driver.drawn
        break
    assert got == want and driver.drawn < calm.drawn == drawn


def test_the_same_again_costs_nothing_and_says_so(encoder, tmp_path, capsys):
    want = Driver(encoder).run(jobs(encoder), Journal(tmp_path)).responses()
    again = Driver(encoder)
    work = again.run(jobs(encoder), Journal(tmp_path))
    assert work.responses() == want and again.drawn == 0
    told = capsys.readouterr().err
    assert "18 of 18 responses were generated before" in told and str(tmp_path) in told


def test_smaller_budgets_later_need_answers_alone(encoder, tmp_path):
    Driver(encoder).run(jobs(encoder), Journal(tmp_path))
    later = jobs(encoder, max_tokens_thinking=[3, 12], thinking_n_ignore=[2])
    fresh, more = Driver(encoder), Driver(encoder)
    want = fresh.run(later).responses()
    work = more.run(
        jobs(encoder, max_tokens_thinking=[3, 12], thinking_n_ignore=[2]), Journal(tmp_path)
    )
    assert work.responses() == want and work.thinking_tokens == 0 and more.drawn < fresh.drawn


def test_what_failed_is_not_kept(encoder, tmp_path):
    class Failing(Driver):
        def make(self, job, work):
            super().make(job, work)
            job.response = job.response.failed("no")

    broken = Failing(encoder).run(jobs(encoder), Journal(tmp_path)).responses()
    assert {r.ended for r in broken} == {"failed"} and not list(tmp_path.iterdir())
    want = Driver(encoder).run(jobs(encoder)).responses()
    assert Driver(encoder).run(jobs(encoder), Journal(tmp_path)).responses() == want


@pytest.mark.parametrize(
    "other",
    [{"seed": 5, "temperature": 1.0}, {"thinking_n_ignore_str": "Hmm"}, {"max_gen_toks": 150}],
)
def test_other_settings_are_not_mistaken_for_the_same(encoder, tmp_path, other):
    Driver(encoder).run(jobs(encoder), Journal(tmp_path))
    changed = Driver(encoder)
    assert changed.run(jobs(encoder, **other), Journal(tmp_path)).done == 18 and changed.drawn
