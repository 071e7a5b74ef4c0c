from __future__ import annotations

import json

import pytest

from s1_plugin.data import words


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Find $x+1$.", "find  $x + 1$ ."),
        (r"Let $\frac{1}{2} \le x$ hold", r"LET \(\dfrac {1}{2}\leq x\) hold"),
        (r"\[ \left( a,\, b \right) \] is given", r"$(a,b)$ is given"),
        ("x^{2} grows", "x^2  grows"),
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
