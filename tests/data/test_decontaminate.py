from __future__ import annotations

import json
import random

import pytest

from s1_plugin.data.decontaminate import Benchmark, Index, nearest
from s1_plugin.data.words import grams, paper_words
from tests.data.planted import SPACING, pasted, planted, squeezed


def bench(name, questions, ids=None):
    ids = ids or [f"{name}-{i}" for i in range(len(questions))]
    return Benchmark(name, "memory", tuple(questions), tuple(ids))


@pytest.fixture(scope="module")
def real(data_dir):
    def read(name):
        lines = (data_dir / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return {name: read(f"{name}.jsonl") for name in ("aime24", "math500", "s1k-questions")}


@pytest.fixture(scope="module")
def index(real):
    return Index.build(bench(n, [r["problem"] for r in real[n]]) for n in ("aime24", "math500"))


def test_the_three_of_s1k_that_are_math500_problems(real, index):
    whole = {
        row["id"]
        for row in real["s1k-questions"]
        if (m := index.find(row["question"])) and m.benchmark == "math500" and not m.ngram
    }
    assert whole == {row["id"] for row in real["s1k-questions"] if row.get("in_math500")}
    assert len(whole) == 3


def test_all_that_the_papers_rule_removes_is_removed(real, index):
    theirs = set()
    for name in ("aime24", "math500"):
        for row in real[name]:
            theirs.update(grams(paper_words(row["problem"])))
    by_paper = {
        row["id"]
        for row in real["s1k-questions"]
        if theirs.intersection(grams(paper_words(row["question"])))
    }
    ours = {row["id"] for row in real["s1k-questions"] if index.find(row["question"])}
    assert len(by_paper) == 94  # of 912 published rows; most by stock phrases
    assert by_paper < ours


@pytest.mark.parametrize("copied", [planted, pasted, squeezed])
def test_a_thousand_near_copies_are_found(real, index, copied):
    rng = random.Random(0)
    problems = [r["problem"] for name in ("aime24", "math500") for r in real[name]]
    copies = [(text, copied(text, rng)) for text in rng.choices(problems, k=1000)]
    assert sum(copy != text for text, copy in copies) > 950
    assert [copy for _, copy in copies if index.find(copy) is None] == []


def test_aime_with_its_words_shuffled_is_not_aime(real):
    problems = [row["problem"] for row in real["aime24"]]
    index = Index.build([bench("aime24", problems)])
    assert all(index.find(text) for text in problems)
    for seed in range(20):
        rng = random.Random(seed)
        for text in problems:
            words = text.split()
            rng.shuffle(words)
            assert index.find(" ".join(words)) is None


def test_a_match_names_ngram_and_question():
    index = Index.build([bench("b", ["one two three four five six seven eight nine"], ["b/7"])])
    match = index.find("so: one two three four five six seven eight!")
    assert match.ngram == "one two three four five six seven eight"  # without the sign: our rule
    assert str(match) == "b b/7: 'one two three four five six seven eight'"
    assert index.find("one two three four five six seven 8") is None


def test_questions_below_eight_words_are_compared_whole():
    index = Index.build([bench("b", ["What is $\\sqrt{50}$?"])])
    assert index.find("what is  \\( \\sqrt{50} \\) ?").ngram == ""
    assert index.find("What is √{50}").ngram == ""
    assert index.find("What is $\\sqrt{51}$?") is None
    # With a word more it is another question.
    assert index.find("Tell me: what is $\\sqrt{50}$?") is None


def test_whole_questions_with_other_numbers_are_not_equal():
    index = Index.build([bench("b", ["How many zeros does $100!$ end with?", "Is 1 23 4 so?"])])
    assert index.find("how many zeros does 100! end with").ngram == ""
    assert index.find("How many zeros does 100 end with?") is None
    assert index.find("Is 12 3 4 so?") is None
    # Without any space it may be what the benchmark asks, and goes.
    assert index.find("Is1234so?").ngram == ""


@pytest.mark.parametrize("space", SPACING)
def test_spacing_of_latex_hides_no_copy(space):
    index = Index.build([bench("b", ["What is $x+\\sqrt{50}$?"])])
    assert index.find(f"What is \\[x+{space}\\sqrt{{50}}{space}\\]?").ngram == ""


def test_stock_phrases_are_told_apart_and_yield_to_better_evidence():
    phrase = "where m and n are relatively prime positive integers"
    index = Index.build([bench("b", [f"{phrase} alpha beta", f"{phrase} gamma"])])
    assert index.find(f"something {phrase} delta").stock
    found = index.find(f"{phrase} gamma and more")
    assert not found.stock and found.question == "b-1"


def test_nearest():
    near = nearest(
        ["the cat sat down here", "nothing alike"], [bench("b", ["x y", "the cat sat down there"])]
    )
    assert near[0] == (2 / 3, "b b-1", "the cat sat down there")
    assert near[1] == (0.0, "", "")
