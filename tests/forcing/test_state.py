"""The state machine against a naive oracle: lists, rounds, nothing shared with the package."""

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.state import Thinking

FULL = os.environ.get("S1_TEST_FULL") == "1"

# A world of small numbers: 0-2 end thinking, 3 is a newline, 4 ends in one, 90s are delimiters.
ENDS, NEWLINE = frozenset({0, 1, 2}), 3
NATURAL, SUFFIX = (90, 91), (92, 93)


def ends_with_newline(token):
    return token in (3, 4)


def make_plan(cap, waits, wait_ids, least=0, max_new_tokens=200, context_bound=False):
    return Plan(
        cap=cap,
        context_bound=context_bound,
        waits=waits,
        min_thinking=least,
        wait_ids=tuple(map(tuple, wait_ids)),
        end_ids=ENDS,
        natural_end=NATURAL,
        capped_end=NATURAL + SUFFIX,
        newline=(NEWLINE,),
        stop_ids=frozenset({1, 2}),
        max_new_tokens=max_new_tokens,
    )


def model(seed, prefix, banned):
    """A deterministic next token that depends on everything before it."""
    text = f"{seed}/{prefix}"
    for attempt in range(1000):
        token = hashlib.sha256(f"{text}/{attempt}".encode()).digest()[0] % 12
        if token not in banned:
            return token
    raise AssertionError


def naive(seed, cap, waits, wait_ids, least):
    """Multi-round budget forcing on lists."""
    thinking, used, natural_ends, ban_first = [], 0, [], False
    while True:
        stop = None
        while len(thinking) < cap:
            token = model(seed, thinking, ENDS if ban_first else ())
            ban_first = False
            if token in ENDS:
                stop = token
                break
            thinking.append(token)
        if stop is None:
            ended = "cap"
            break
        natural_ends.append(len(thinking))
        if used >= waits and len(thinking) >= least:
            ended = "natural"
            break
        wait = wait_ids[used % len(wait_ids)]
        if len(thinking) + len(wait) > cap:
            ended = "cap"
            break
        used += 1
        thinking = thinking + list(wait)
        ban_first = True
    if ended == "natural":
        closing = list(NATURAL)
    else:
        newline = [] if thinking and ends_with_newline(thinking[-1]) else [NEWLINE]
        closing = newline + list(NATURAL + SUFFIX)
    return thinking + closing, len(thinking), used, ended, natural_ends


def run(state, seed):
    """Drives the state machine as a driver does, until the answer begins."""
    tokens = []
    while not state.answering:
        due = state.due()
        if due is not None:
            token = state.push(-1)  # whatever is drawn, the due token stands
            assert token == due
        else:
            banned = ENDS if state.must_not_end() else ()
            token = state.push(model(seed, tokens, banned))
            if token is None:
                assert state.must_not_end()
                token = state.push(model(seed, tokens, ENDS))
        tokens.append(token)
    return tokens


specs = st.tuples(
    st.integers(0, 2**32),
    st.integers(0, 60),
    st.integers(0, 6),
    st.lists(st.lists(st.integers(5, 11), max_size=3), min_size=1, max_size=3),
    st.one_of(st.just(0), st.integers(0, 60)),
)


@settings(max_examples=200_000 if FULL else 4_000, deadline=None)
@given(specs)
def test_the_machine_is_the_naive_procedure(spec):
    seed, cap, waits, wait_ids, least = spec
    tokens, thinking_tokens, used, ended, natural_ends = naive(seed, cap, waits, wait_ids, least)
    state = Thinking(make_plan(cap, waits, wait_ids, least), ends_with_newline)
    assert run(state, seed) == tokens
    assert state.thinking_tokens == thinking_tokens <= cap
    assert (state.waits, state.ended, state.natural_ends) == (used, ended, natural_ends)
    # Exactly one delimiter, at the end; nothing forced is lost; fewer Waits only at the cap.
    assert tokens.count(NATURAL[0]) == tokens.count(NATURAL[1]) == 1
    closing = len(tokens) - thinking_tokens
    put_in = sum(len(wait_ids[i % len(wait_ids)]) for i in range(used))
    assert len(state.forced) == closing + put_in
    assert state.forced[-closing:] == list(range(thinking_tokens, len(tokens)))
    assert state.waits >= waits or state.ended == "cap"
    assert state.thinking_tokens >= least or state.ended == "cap"
    assert state.answer_at == len(tokens)
    assert tokens[state.delimiter_end - 1] == NATURAL[1]


@settings(max_examples=50_000 if FULL else 1_000, deadline=None)
@given(specs, st.integers(0, 60))
def test_a_smaller_budget_thinks_a_prefix_of_a_larger_one(spec, smaller):
    seed, cap, waits, wait_ids, _ = spec
    large = Thinking(make_plan(cap, waits, wait_ids), ends_with_newline)
    small = Thinking(make_plan(min(smaller, cap), waits // 2, wait_ids), ends_with_newline)
    long, short = run(large, seed), run(small, seed)
    assert short[: small.thinking_tokens] == long[: small.thinking_tokens]


def test_an_end_right_after_a_wait_is_the_drivers_mistake():
    state = Thinking(make_plan(10, 1, [[7]]), ends_with_newline)
    state.push(5)
    assert state.push(0) == 7
    assert state.must_not_end()
    with pytest.raises(ValueError, match="right after a Wait"):
        state.push(0)


def test_a_context_bound_end_is_said():
    state = Thinking(make_plan(1, 0, [[7]], context_bound=True), ends_with_newline)
    state.push(5)
    assert state.ended == "context"


def test_tokens_of_the_answer_pass_unchanged():
    state = Thinking(make_plan(0, 0, [[7]]), ends_with_newline)
    while not state.answering:
        state.push(-1)
    assert [state.push(token) for token in (0, 1, 5)] == [0, 1, 5]
    assert state.thinking_tokens == 0
