import pytest

from s1_plugin.data.limits import Breaker, Hopeless, Pace, pause


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_pauses_double_up_to_a_minute_with_full_jitter():
    most = [pause(n, lambda low, high: high) for n in range(1, 9)]
    assert most == [1, 2, 4, 8, 16, 32, 60, 60]
    assert {pause(n, lambda low, high: low) for n in range(1, 9)} == {0}
    assert pause(10_000) <= 60


def test_pace_holds_the_rate():
    """1,000 requests of 50 tokens at 6,000 a minute: one minute's worth at once, then 100/s."""
    clock = Clock()
    pace = Pace(6000, clock)
    for _ in range(1000):
        while seconds := pace.wait(50):
            clock.now += seconds
    assert clock.now == pytest.approx((1000 * 50 - 6000) / 100)


def test_pace_learns_what_was_spent():
    clock = Clock()
    pace = Pace(6000, clock)
    assert pace.wait(1000) == 0
    pace.settle(1000, 8000)  # 2,000 more than a minute holds
    assert pace.wait(1000) == pytest.approx(30)
    pace.settle(8000, 0)
    assert pace.wait(1000) == 0


def test_pace_lets_one_request_exceed_the_limit():
    clock = Clock()
    pace = Pace(100, clock)
    assert pace.wait(1000) == 0
    assert pace.wait(1) == pytest.approx(901 / 100 * 60)


def test_no_limit_is_none():
    assert Pace(None).wait(1e12) == 0


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
    with pytest.raises(Hopeless, match=r"every reply breaks off: 3 in a row.*charged.*last: half"):
        breaker.lost("half")
