from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis.strategies import text

from s1_plugin.data import words


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Find $x+1$.", "find  $x + 1$ ."),
        (r"Let $\frac{1}{2} \le x$ hold", r"LET \(\dfrac {1}{2}\leq x\) hold"),
        (r"\[ \left( a,\, b \right) \] is given", r"$(a,b)$ is given"),
        ("x^{2} grows", "x^2  grows"),
        ("x² grows", "x^2 grows"),
        ("don’t “ask”", "don't ``ask''"),
        ("the an\u00adgle is 30° − 5", r"The angle is $30^{\circ} - 5$"),
        ("Let\u200b 2 × π ≤ 3·Δ", r"let $2 \times \pi \leq 3\cdot\Delta$"),
        ("ﬁnd ½ of x", "Find 1/2 of $x$"),
    ],
)
def test_spacing_and_case_do_not_matter(a, b):
    assert words.units(a) == words.units(b)


@pytest.mark.parametrize(
    ("a", "b"), [("Find $x+1$", "Find $x-1$"), ("Find $12$", "Find $1$ 3"), (r"\cos x", r"\sin x")]
)
def test_what_is_asked_matters(a, b):
    assert words.units(a) != words.units(b)


def test_commands_are_no_words():
    assert words.units(r"the \frac{a}{b} of all") == ["the", r"\fracabof", "all"]


def test_whole_text_has_no_spaces_and_keeps_numbers():
    assert words.whole("find, then: (2, 4) .") == words.whole("find then(2,4)") == "findthen2,4"
    assert words.whole("1.5 and 2") != words.whole("15 and 2")


@given(text(alphabet="ab1 2.,()\n\x1c\x85\u2003\u2028\\'", max_size=200))
def test_equal_whole_texts_begin_alike(some):
    some = words.plain(some)
    assert words.beginning(some) == words.beginning(words.whole(some))
    assert words.beginning(f"{some}{' ' * 90}z") == words.beginning(words.whole(some) + "z")


def test_grams():
    assert words.grams(list("abc"), 2) == ["a b", "b c"]
    assert words.grams(list("abc"), 4) == []


def test_numbers_are_sorted():
    assert words.numbers("12 and 3, 12") == ["12", "12", "3"]


def test_ascii_is_read_as_all_text_is(data_dir):
    for line in (data_dir / "math500.jsonl").read_text(encoding="utf-8").splitlines()[:200]:
        text = words.plain(json.loads(line)["problem"])
        if text.isascii():
            assert words._WORD.split(text) == words._ASCII_WORD.split(text)
