from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis.strategies import integers, sampled_from, text, tuples

from s1_plugin.data import words
from tests.data.planted import SPACING


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
    assert words.whole("find, then: (2, 4) .") == words.whole("find,then:(2,4)")
    assert words.whole("1.5 and 2") != words.whole("15 and 2")


def said(text):
    return words.whole(words.plain(text))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac{1}{12}+3", r"\frac{11}{2}+3"),
        (r"\frac12 3", r"\frac{1}{23}"),
        (r"\frac{x}{2}3", r"\frac{x}{23}"),
        (r"\frac{ab}{c}", r"\frac{a}{bc}"),
        (r"\sqrt{x}+1", r"\sqrt{x+1}"),
        (r"\binom{10}{4}", r"\binom{1}{04}"),
        ("x^{2}3", "x^{23}"),
        ("2^{n+1}", "2^{n}+1"),
        ("x²3", "x^23"),
        ("x⁻¹", "x-1"),
        ("101₂", "1012"),
        ("2½", "21/2"),
        ("①②", "12"),
        ("1 23 4", "12 3 4"),
        (r"1 \\ 2", "12"),
        ("it is 3. 4 are left", "it is 3.4 are left"),
        ("1, 2, ..., 6", "1, 26"),
        ("(1+2)*3", "1+(2*3)"),
        ("f(a,b)", "f(ab)"),
        ("5!", "5"),
        ("(2+3)!", "(2+3)"),
        ("n! for all", "n for all"),
        ("f'", "f"),
        ("f''", "f'"),
        ("How many zeros does 100! end with?", "How many zeros does 100 end with?"),
    ],
)
def test_what_looks_alike_and_is_not_the_same(a, b):
    assert said(a) != said(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac12+3", r"\dfrac{1}{2} + 3"),
        (r"\frac 1 2+3", r"\tfrac{1}{2} + 3"),
        (r"\frac1{12}+3", r"\frac {1} {12}+3"),
        (r"\frac{1}2+3", r"\frac{1}{2}+3"),
        (r"\binom n2", r"\binom{n}{2}"),
        ("x¹⁰", "x^{10}"),
        ("x₁₂", "x_{12}"),
        ("√50", r"\sqrt{50}"),
        ("f′′(x)", "f''(x)"),
        ("“ask”", "``ask''"),
        (r"1{,}000 or 1,\!000 or 1\,000", "1,000 or 1,000 or 1,000"),
        (r"1{, }000", "1,000"),
        (r"a\\[2pt] b", r"a \\b"),
        (r"\$5", "$5$"),
        ("1. Find it", "12) find it."),
        ("Problem 12: Find it", "find it"),
        (r"\begin{equation*}x\end{equation*}", "$x$"),
    ],
)
def test_what_is_written_in_two_ways_is_the_same(a, b):
    assert said(a) == said(b)
    assert words.units(a) == words.units(b)


def test_numbers_are_no_labels():
    assert said("12. 5 men") != said("13. 5 men")
    assert said("1.5 men") != said("2.5 men")
    assert said("2 men") != said("3 men")


@pytest.mark.parametrize("space", SPACING)
def test_spacing_of_latex_is_not_seen(space):
    a, b = rf"$x+{space}y=\frac{{1}}{{2}}{space}z$", r"$x+y=\frac{1}{2}z$"
    assert said(a) == said(b)
    assert words.units(a) == words.units(b)


NUMBER = integers(0, 10**4).map(str)
#: Ways to write two numbers that keep them two.
PAIRS = (
    *(r"\frac{%s}{%s}", r"\binom{%s}{%s}", "x^{%s}%s", "x_{%s}%s", "%s %s", "%s. %s", "%s.%s"),
    *("%s, %s", "%s+%s", "%s!%s", "(%s)(%s)", "%s^{%s}", r"%s\cdot%s", r"%s \\ %s", "%sx%s"),
    *(r"\sqrt[%s]{%s}", r"%s\frac{%s}{7}", r"\log_{%s}%s", r"\frac{x}{%s}%s", "%s$ $%s", "%s~%s"),
)


@given(sampled_from(PAIRS), text(alphabet="0123456789", min_size=3, max_size=5))
def test_other_numbers_are_other_problems(way, digits):
    """The same digits, cut into two numbers at another place."""
    pairs = [way % (digits[:at], digits[at:]) for at in range(1, len(digits))]
    # As part of a question, too, whatever stands around it; and in the units of n-grams.
    for forms in (pairs, [f"is 1 {pair} 2 or" for pair in pairs]):
        assert len(set(map(said, forms))) == len(forms)
        assert len(set(map(tuple, map(words.units, forms)))) == len(forms)


@given(sampled_from(PAIRS), tuples(NUMBER, NUMBER))
def test_numbers_of_equal_texts_are_equal(way, pair):
    text = way % pair
    digits = re.findall(r"\d+", text)
    assert re.findall(r"\d+", said(text)) == digits
    assert re.findall(r"\d+", "".join(words.units(text))) == digits


@given(text(alphabet="ab1 2.,()\n\x1c\x85\u2003\u2028\\'", max_size=200))
def test_equal_whole_texts_begin_alike(some):
    some = words.plain(some)
    assert words.beginning(some) == words.beginning(words.whole(some))
    assert words.beginning(f"{some}{' ' * 90}z") == words.beginning(words.whole(some) + "z")


def test_grams():
    assert words.grams(list("abc"), 2) == ["a b", "b c"]
    assert words.grams(list("abc"), 4) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("costs $1,000,000, or 20,500.", "costs 1000000, or 20500."),
        ("x² and 3¹⁰", "x^2 and 3^{10}"),
        (r"\frac12", r"\frac{1}{2}"),
    ],
)
def test_near_copies_have_the_same_numbers(a, b):
    one, other = words.fine(a), words.fine(b)
    assert words.numbers(one) == words.numbers(other) != []
    assert words.tokens(one) == words.tokens(other)


@pytest.mark.parametrize("text", ["(1,200)", "[1,200]", "x_1,200", "1, 200", "5,1,200", "0,100"])
def test_commas_that_part_numbers_stay(text):
    assert words.numbers(words.fine(text)) == re.findall(r"\d+", text)


def test_numbers_are_in_their_order():
    assert words.numbers("12 and 3, 12") == ["12", "3", "12"]


def test_ascii_is_read_as_all_text_is(data_dir):
    for line in (data_dir / "math500.jsonl").read_text(encoding="utf-8").splitlines()[:200]:
        text = words.plain(json.loads(line)["problem"])
        if text.isascii():
            assert words._WORDS.split(text) == words._ASCII_WORDS.split(text)
