import random

import pytest

from s1_plugin.distill.limits import Breaker, Hopeless, Pace, pause


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_pauses_double_up_to_a_minute_with_full_jitter():
    most = [pause(n, lambda low, high: high) for n in range(1, 9)]
    assert most == [1, 2, 4, 8, 16, 32, 60, 60]
    assert {pause(n, lambda low, high: low) for n in range(1, 9)} == {0}
    assert pause(10_000) <= 60


def start(pace, clock, tokens):
    while seconds := pace.wait(tokens):
        clock.now += seconds
    return pace.take(tokens)


def test_pace_holds_the_rate():
    """1,000 requests of 50 tokens at 6,000 a minute: 120 in each, eight whole minutes."""
    clock = Clock()
    pace = Pace(6000, clock)
    for _ in range(1000):
        start(pace, clock, 50)
    assert clock.now == pytest.approx(8 * 60)


@pytest.mark.parametrize("seed", range(20))
def test_no_minute_holds_more_than_the_limit(seed):
    """Whatever comes when, costs what, and is settled when."""
    chance, clock, limit = random.Random(seed), Clock(), 1000
    pace, going, started = Pace(limit, clock), [], []
    for _ in range(300):
        clock.now += chance.choice([0, 0, chance.expovariate(1), chance.expovariate(0.05)])
        tokens = chance.randint(1, 400)
        taken = start(pace, clock, tokens)
        started.append([clock.now, tokens])
        going.append((taken, started[-1]))
        minute = [cost for at, cost in started if at > clock.now - 60 + 1e-6]
        assert sum(minute) <= limit
        while going and chance.random() < 0.5:
            taken, mine = going.pop(chance.randrange(len(going)))
            mine[1] = chance.randint(0, mine[1])  # it cost less
            pace.settle(taken, mine[1])
    # And it does not wait for nothing: half of what the limit allows is used.
    assert sum(cost for _, cost in started) > 0.3 * limit * clock.now / 60 or clock.now < 120


def test_pace_learns_what_was_spent():
    clock = Clock()
    pace = Pace(6000, clock)
    taken = start(pace, clock, 1000)
    assert pace.wait(5000) == 0 and pace.wait(5001) == pytest.approx(60)
    pace.settle(taken, 9000)  # one and a half minutes' worth
    assert pace.wait(1) == pytest.approx(90)
    pace.settle(taken, 0)
    assert pace.wait(6000) == 0
    clock.now = 61
    pace.settle(taken, 5000)  # its minute is over
    assert pace.wait(1000) == 0 and pace.wait(1001) == pytest.approx(60)


def test_pace_lets_one_request_exceed_the_limit():
    clock = Clock()
    pace = Pace(100, clock)
    assert pace.wait(1000) == 0
    pace.take(1000)
    assert pace.wait(1) == pytest.approx(10 * 60)


def test_no_limit_is_none():
    pace = Pace(None)
    pace.settle(pace.take(1e12), 1e13)
    assert pace.wait(1e12) == 0


def test_breaker_opens_after_silence_only():
    clock = Clock()
    breaker = Breaker(60, 20, clock)
    clock.now = 59
    breaker.failed("x")
    breaker.alive()
    clock.now = 118
    breaker.failed("x")
    clock.now = 120
    with pytest.raises(Hopeless, match=r"61 s.*HTTP 500.*same command again"):
        breaker.failed("HTTP 500")


def test_breaker_opens_after_so_many_without_a_trace():
    breaker = Breaker(60, 3)
    for status in ("empty", "refused", "ok", "no_thinking", "truncated"):
        breaker.ended(status, "why")
    with pytest.raises(Hopeless, match=r"3 questions in a row.*no_thinking \(why\).*--extra"):
        breaker.ended("no_thinking", "why")


def test_breaker_opens_after_so_many_that_broke_off():
    breaker = Breaker(60, 3)
    for _ in range(5):
        breaker.lost("x")
        breaker.lost("x")
        breaker.whole()
    breaker.lost("x")
    breaker.lost("x")
    with pytest.raises(Hopeless, match=r"no reply comes whole: 3 attempts.*charged.*last: half"):
        breaker.lost("half")
