from __future__ import annotations

import json

import pytest

from s1_plugin.data import domains


def test_fifty_domains():
    assert len(domains.table()[0]) == 50


@pytest.mark.parametrize(
    ("question", "domain"),
    [
        ("Find the remainder when $2^{100}$ is divided by 7.", "Number theory"),
        ("In triangle $ABC$ the angle at $A$ is right.", "Geometry"),
        ("A fair coin is flipped. What is the probability of heads?", "Probability theory"),
        ("Which enzyme repairs DNA in the cell?", "Biology"),
        ("Find the eigenvalues of the matrix.", "Linear algebra"),
        ("Which law of thermodynamics holds for an ideal gas?", "Thermodynamics"),
        ("Evaluate the sentence: 2+2", "Algebraic systems"),
        ("What is the numerator of this rational number?", "Algebraic systems"),
        # An environment of LaTeX, not a data structure.
        (
            r"\[f(x) = \begin{array}{cl} 3-x & x \leq 3 \end{array}\]Find the limit.",
            "Real functions",
        ),
        # How the answer is to be given is no number theory.
        (
            "In triangle $ABC$ the side $AB$ is $m/n$, where $m$ and $n$ are relatively\nprime "
            "positive integers, and $p$ is not divisible by the square of any prime.",
            "Geometry",
        ),
        ("Show that $a$ and $b$ are relatively prime.", "Number theory"),
        # Not one known word, with a formula and without.
        ("If $2^8=4^x$, what is the value of $x$?", domains.ALGEBRA),
        ("Zzz?", domains.NONE),
    ],
)
def test_plain_cases(question, domain):
    assert domains.classify(question) == domain


@pytest.mark.parametrize(
    ("reply", "domain"),
    [
        ("Geometry", "Geometry"),
        ("**differential geometry**.", "Differential geometry"),
        ("The field is: Number theory", "Number theory"),
        ("Geometry or Number theory", None),
        ("Geometrytheory", None),
        ("Astrology", None),
        ("", None),
    ],
)
def test_what_a_reply_names(reply, domain):
    assert domains.named(reply) == domain


def test_every_domain_is_told_by_its_own_name():
    for name in domains.table()[0]:
        assert domains.named(f"- {name}\n") == name
    asked = domains.prompt("How many {braces}?")
    assert all(f"- {name}\n" in asked for name in domains.table()[0])
    assert "How many {braces}?" in asked


def test_quality_on_math500(data_dir):
    """On the subjects that are domains of ours; the numbers are in docs/curate.md."""
    same = {
        "Number Theory": {"Number theory"},
        "Geometry": {"Geometry"},
        "Counting & Probability": {"Combinatorics", "Probability theory"},
        "Algebra": {"Algebraic systems", "Polynomials and fields"},
    }
    right, all_of, silent = dict.fromkeys(same, 0), dict.fromkeys(same, 0), 0
    for line in (data_dir / "math500.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        told = domains.classify(row["problem"])
        silent += told == domains.NONE
        if row["subject"] in same:
            all_of[row["subject"]] += 1
            right[row["subject"]] += told in same[row["subject"]]
    assert list(zip(right.values(), all_of.values(), strict=True)) == [
        (47, 62),
        (35, 41),
        (31, 38),
        (58, 124),
    ]
    assert silent == 4
