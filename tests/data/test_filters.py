from __future__ import annotations

import json

import pytest

from s1_plugin.data import filters
from s1_plugin.data.rows import InputError


def form(question="Find x in the set.", thinking="t", attempt="a"):
    batch = {"question": [question], "thinking": [thinking], "attempt": [attempt]}
    return filters.form(filters.patterns(None), batch)["reason"][0].partition(":")[0]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("See ![](a.png). Find x.", "image that is not there"),
        ("[asy] draw(); [/asy] Find x.", "image that is not there"),
        ("In the figure below, find x.", "refers to a figure"),
        ("A graph is planar. As shown in the diagram, find x.", "refers to a figure"),
        ("Question not found.", "question not found"),
        ("N/A", "question not found"),
        ("Find x:\n+---+---+\n| 1 | 2 |\n+---+---+\n", "ASCII art"),
        ("3. Prove the lemma.\n\n1. Find a.\n2. Find b.", "inconsistent numbering"),
        ("https://example.org/a", "a link in place of the question"),
        ("Find the area of the figure.", ""),
        ("Let $a_{1} - a_{2} + |x|$. Find a graph of f.", ""),
        ("1. Find a.\n2. Find b.", ""),
    ],
)
def test_form(question, name):
    assert form(question) == name


def test_what_the_teacher_says_of_a_missing_image():
    assert form(attempt="I can't see the figure.") == "the teacher could not see something"
    assert form(thinking="I can't see the figure, but it says so.") == ""


def test_refusals_in_words():
    for said in (
        *("I'm sorry, but I can't help with that.", "Sorry, I cannot do this."),
        *("I cannot help with that.", "I can not help with that", "I won't help with that."),
        *("I am unable to answer this.", "As an AI, I cannot answer."),
        "Unfortunately, I cannot answer this question.",
    ):
        assert form(attempt=said) == "the teacher refuses in words"
    assert form(attempt="I can't believe it: 5 is right. I'm sorry, but I can't say more.") == ""
    assert form(attempt="I cannot see a closed form, so we count: 5.") == ""
    assert form(attempt="I'm sorry for the long derivation. The answer is 5.") == ""


def test_published_rows_have_good_form(data_dir):
    """s1K went through its authors' filter. Ours takes three rows more, and rightly: all three
    are about a figure that s1K does not have."""
    lines = (data_dir / "s1k-questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    assert [form(q) for q in questions if form(q)] == ["refers to a figure"] * 3


def test_status_and_completeness():
    found = filters.status({"status": ["ok", "", "refused", "verified"]})
    assert found["reason"] == ["", "", "status refused", ""]
    assert found["foreign"] == [False, False, False, True]
    batch = {"problem": ["", "field 'attempt' is empty; fill", ""], "thinking": ["t", "", " "]}
    reasons = filters.complete(batch)["reason"]
    assert [r.partition(":")[0] for r in reasons] == ["", "attempt unfit", "no trace"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "no list"),
        ("- {name: a}", "entry 1: needs exactly"),
        ("- {name: a, in: [x], pattern: b}", "field `in`"),
        ("- {name: a, in: [question], pattern: '('}", "field `pattern`"),
        ("[", "no YAML"),
    ],
)
def test_patterns_of_ones_own_are_checked(tmp_path, text, said):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        filters.patterns(tmp_path / "p.yaml")
