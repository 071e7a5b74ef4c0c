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
    }
    right, all_of = dict.fromkeys(same, 0), dict.fromkeys(same, 0)
    for line in (data_dir / "math500.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["subject"] in same:
            all_of[row["subject"]] += 1
            right[row["subject"]] += domains.classify(row["problem"]) in same[row["subject"]]
    assert (right, all_of) == (
        {"Number Theory": 47, "Geometry": 35, "Counting & Probability": 31},
        {"Number Theory": 62, "Geometry": 41, "Counting & Probability": 38},
    )
