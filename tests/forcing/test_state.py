"""The state machine against a naive oracle: lists, rounds, nothing shared with the package."""

import os
import zlib
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.state import Thinking, replay

FULL = os.environ.get("S1_TEST_FULL") == "1"

# A world of small numbers: 0-2 may end thinking, 3 is a newline, 4 ends in one, a model draws
# 0-11, a Wait is made of 5-11, delimiters begin with an end and go on in the 90s.
NEWLINE = 3


def ends_with_newline(token):
    return token in (3, 4)


class Spec(NamedTuple):
    """A budget and a format, as numbers."""

    cap: int
    waits: int
    wait_ids: list
    least: int = 0
    ends: tuple = (0, 1, 2)
    delimiter: tuple = (0, 91)
    suffix: tuple = (92, 93)
    context: bool = False

    def plan(self):
        return Plan(
            cap=self.cap,
            context_bound=self.context,
            waits=self.waits,
            min_thinking=self.least,
            wait_ids=tuple(map(tuple, self.wait_ids)),
            end_ids=frozenset(self.ends),
            natural_end=self.delimiter,
            capped_end=self.delimiter + self.suffix,
            newline=(NEWLINE,),
            stop_ids=frozenset({1, 2}),
            max_new_tokens=200,
        )


def make_plan(cap, waits, wait_ids, **rest):
    return Spec(cap, waits, wait_ids, **rest).plan()


def model(seed, prefix, banned):
    """A deterministic next token that depends on everything before it."""
    number = zlib.crc32(bytes(prefix), seed)
    while True:
        number = (number * 6364136223846793005 + 1442695040888963407) % 2**64
        token = (number >> 40) % 12
        if token not in banned:
            return token


def naive(seed, spec):
    """Multi-round budget forcing on lists."""
    thinking, used, natural_ends, ban_first = [], 0, [], False
    while True:
        stop = None
        while len(thinking) < spec.cap:
            token = model(seed, thinking, spec.ends if ban_first else ())
            ban_first = False
            if token in spec.ends:
                stop = token
                break
            thinking.append(token)
        if stop is None:
            ended = "cap"
            break
        natural_ends.append(len(thinking))
        if used >= spec.waits and len(thinking) >= spec.least:
            ended = "natural"
            break
        wait = spec.wait_ids[used % len(spec.wait_ids)]
        if len(thinking) + len(wait) > spec.cap:
            ended = "cap"
            break
        used += 1
        thinking = thinking + list(wait)
        ban_first = True
    if ended == "natural":
        closing = list(spec.delimiter)
    else:
        newline = [] if thinking and ends_with_newline(thinking[-1]) else [NEWLINE]
        closing = newline + list(spec.delimiter + spec.suffix)
        ended = "context" if spec.context else "cap"
    return thinking + closing, len(thinking), used, ended, natural_ends


def run(state, seed):
    """Drives the state machine as a driver does, until the answer begins."""
    ends, tokens = state.plan.end_ids, []
    while not state.answering:
        due = state.due()
        if due is not None:
            token = state.push(-1)  # whatever is drawn, the due token stands
            assert token == due
        else:
            token = state.push(model(seed, tokens, ends if state.must_not_end() else ()))
            if token is None:
                assert state.must_not_end()
                token = state.push(model(seed, tokens, ends))
        tokens.append(token)
    return tokens


seeds = st.integers(0, 2**32 - 1)
caps = st.one_of(st.integers(0, 3), st.integers(0, 60))


def numbered(first, last):
    """Makes a tuple of ``n`` numbers of a range, another one for another ``k``."""
    return lambda n, k=0: tuple(first + (3 * k + i) % (last - first + 1) for i in range(n))


# Lengths are drawn, not their tokens: fewer choices, several times as many examples a minute.
specs = st.builds(
    lambda waits_of, delimiter, suffix, **rest: Spec(
        wait_ids=[numbered(5, 11)(n, k) for k, n in enumerate(waits_of)],
        delimiter=(0, *numbered(91, 95)(delimiter)),
        suffix=numbered(96, 99)(suffix),
        **rest,
    ),
    waits_of=st.lists(st.sampled_from([0, 1, 1, 2, 3, 20, 61]), min_size=1, max_size=3),
    delimiter=st.integers(0, 3),
    suffix=st.integers(0, 3),
    cap=caps,
    waits=st.integers(0, 6),
    least=st.sampled_from([0, 0, 0, 1, 5, 15, 40]),
    ends=st.sampled_from([(0,), (0, 1), (0, 2), (0, 1, 2)]),
    context=st.booleans(),
)


def kinds(spec, used, ended, natural_ends):
    """What is special in a run, to be counted."""
    return [
        ended,
        f"delimiter of {len(spec.delimiter)}",
        f"{min(used, 3)} Waits",
        *(["cap 0"] if spec.cap == 0 else []),
        *(["cap 1"] if spec.cap == 1 else []),
        *(["the minimum prolongs"] if used > spec.waits else []),
        *(["several Wait strings used"] if used > 1 and len(spec.wait_ids) > 1 else []),
        *(["an empty Wait used"] if used and not spec.wait_ids[0] else []),
        *(["a Wait that does not fit"] if len(natural_ends) > used and ended != "natural" else []),
        *(["a Wait over the cap"] if len(spec.wait_ids[0]) > spec.cap > 0 else []),
    ]


KINDS = {
    *("natural", "cap", "context", "cap 0", "cap 1", "several Wait strings used"),
    *("the minimum prolongs", "an empty Wait used", "a Wait that does not fit"),
    *("a Wait over the cap", *(f"delimiter of {n}" for n in (1, 2, 3, 4))),
    *(f"{n} Waits" for n in range(4)),
}


def test_the_machine_is_the_naive_procedure():
    seen = Counter()

    @settings(max_examples=200_000 if FULL else 4_000, deadline=None)
    @given(seeds, specs)
    def check(seed, spec):
        tokens, thinking_tokens, used, ended, natural_ends = naive(seed, spec)
        state = Thinking(spec.plan(), ends_with_newline)
        assert run(state, seed) == tokens
        assert state.thinking_tokens == thinking_tokens <= spec.cap
        assert (state.waits, state.ended, state.natural_ends) == (used, ended, natural_ends)
        # Exactly one delimiter, at the end; an end token nowhere else.
        at, n = state.delimiter_end - len(spec.delimiter), len(spec.delimiter)
        assert tuple(tokens[at : at + n]) == spec.delimiter
        assert [i for i, t in enumerate(tokens) if t in spec.ends] == [at]
        assert tuple(tokens[at + n :]) == (() if ended == "natural" else spec.suffix)
        assert state.answer_at == len(tokens)
        # Nothing forced is lost: the Waits whole and in turn, then what closes.
        closing = list(range(thinking_tokens, len(tokens)))
        waits = [spec.wait_ids[i % len(spec.wait_ids)] for i in range(used)]
        put_in = state.forced[: len(state.forced) - len(closing)]
        assert state.forced == put_in + closing
        assert [tokens[i] for i in put_in] == [t for wait in waits for t in wait]
        # Fewer Waits or less thinking than asked only at the cap.
        assert (state.waits >= spec.waits and thinking_tokens >= spec.least) or ended != "natural"
        seen.update(kinds(spec, used, ended, natural_ends))

    check()
    assert set(seen) == KINDS
    assert min(seen.values()) >= 20, seen


def test_a_smaller_budget_is_replayed_from_a_larger_ones_draws():
    seen = Counter()

    @settings(max_examples=50_000 if FULL else 2_000, deadline=None)
    @given(seeds, specs, caps, st.integers(0, 6))
    def check(seed, spec, cap, waits):
        small = spec._replace(cap=min(cap, spec.cap), waits=min(waits, spec.waits))
        large = Thinking(spec.plan(), ends_with_newline)
        own = Thinking(small.plan(), ends_with_newline)
        long, short = run(large, seed), run(own, seed)
        # Its thinking is a prefix, and replay tells it as its own run does, bookkeeping included.
        assert short[: own.thinking_tokens] == long[: own.thinking_tokens]
        again, tokens = replay(small.plan(), ends_with_newline, large.draws)
        assert tokens == short
        assert {**vars(again), "plan": 0} == {**vars(own), "plan": 0}
        seen["shorter"] += own.thinking_tokens < large.thinking_tokens
        seen["fewer Waits"] += own.waits < large.waits
        seen[own.ended] += 1

    check()
    assert min(seen[k] for k in ("shorter", "fewer Waits", "natural", "cap")) >= 50, seen


def test_a_larger_budget_cannot_be_replayed_from_a_smaller_ones_draws():
    small = Thinking(make_plan(3, 0, [[7]]), ends_with_newline)
    while not small.answering:
        small.push(5)
    with pytest.raises(ValueError, match="shorter than the budget"):
        replay(replace(small.plan, cap=4), ends_with_newline, small.draws)


def test_an_end_right_after_a_wait_is_the_drivers_mistake():
    state = Thinking(make_plan(10, 1, [[7]]), ends_with_newline)
    state.push(5)
    assert state.push(0) == 7
    assert state.must_not_end()
    with pytest.raises(ValueError, match="right after a Wait"):
        state.push(0)


def test_tokens_of_the_answer_pass_unchanged():
    state = Thinking(make_plan(0, 0, [[7]]), ends_with_newline)
    while not state.answering:
        state.push(-1)
    assert [state.push(token) for token in (0, 1, 5)] == [0, 1, 5]
    assert state.thinking_tokens == 0
