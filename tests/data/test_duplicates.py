from __future__ import annotations

import json
import random

import numpy as np
import pytest

from s1_plugin.data import duplicates as d
from s1_plugin.data.words import fine
from tests.data.planted import planted


def copies(texts):
    prints = np.array([d.fingerprint(text) for text in texts], np.uint64)
    return d.copies(prints, d.bands(texts), texts.__getitem__)


BASE = " ".join(f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60))


def test_exact_copies_go_and_the_first_stays():
    assert copies(["b c d e", "A b.", "a  B", "$a$ b"]) == {2: (1, 1.0), 3: (1, 1.0)}


def test_near_copies_at_the_threshold():
    words = BASE.split()
    # A changed word spoils up to five runs of 56: 51 / 61 in common; a second one: 46 / 66.
    one = [*words[:30], "other", *words[31:]]
    two = [*one[:10], "another", *one[11:]]
    found = copies([BASE, " ".join(one), " ".join(two)])
    assert found == {1: (0, 51 / 61)}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("costs 1,000 or", "costs 1000 or"),
        ("has x² or", "has $x^2$ or"),
        (r"has \frac12 or", r"has $\frac{1}{2}$ or"),
        ("1. Find", "2. Find"),
        ("Problem 12: Find", "Find"),
    ],
)
def test_near_copies_written_otherwise(a, b):
    found = copies([f"{a} {BASE}", f"{b} {BASE} indeed"])
    assert set(found) == {1} and 0.9 < found[1][1] < 1


@pytest.mark.parametrize(
    ("a", "b"), [("3 men and 5", "5 men and 3"), ("1,000", "100"), ("x²", "x³")]
)
def test_near_copies_with_other_numbers_are_not(a, b):
    assert copies([f"{a} {BASE}", f"{b} {BASE} indeed"]) == {}


def test_exact_is_said_of_equal_questions_only():
    assert copies([f"{BASE} 1,000", f"{BASE} 1000"]) == {1: (0, d.NEAREST)}


def test_rows_with_equal_fingerprints_by_chance_are_compared():
    texts = ["What is 5!", "What is 5", "what is $5!$", "what is $5$"]
    prints = np.zeros(4, np.uint64)
    assert d.copies(prints, d.bands(texts), texts.__getitem__) == {2: (0, 1.0), 3: (1, 1.0)}


def test_pairs_just_above_the_threshold_are_proposed():
    rng = random.Random(5)
    texts = []
    for pair in range(300):
        words = [f"{word}{chr(97 + pair // 26)}{chr(97 + pair % 26)}" for word in BASE.split()]
        texts += [" ".join(words)]
        words[rng.randrange(5, 55)] = "other"
        texts += [" ".join(words)]
    found = copies(texts)
    assert set(found) == set(range(1, 600, 2))
    assert {alike for _, alike in found.values()} == {51 / 61}


def test_other_numbers_are_other_problems_and_never_compared():
    texts = [f"{BASE} {n}" for n in range(50)]
    prints = np.array([d.fingerprint(text) for text in texts], np.uint64)
    assert d.copies(prints, d.bands(texts), lambda row: pytest.fail("compared")) == {}


def test_many_copies_of_one_question_are_compared_with_what_stays(monkeypatch):
    seen = []
    texts = [f"{BASE} end{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(400)]
    prints = np.array([d.fingerprint(text) for text in texts], np.uint64)

    def text(row):
        seen.append(row)
        return texts[row]

    found = d.copies(prints, d.bands(texts), text)
    assert set(found) == set(range(1, 400))
    assert {other for other, _ in found.values()} == {0}
    assert len(seen) < 5 * 400


def test_batches_do_not_change_the_keys():
    texts = [BASE, "short", "", BASE[10:]]
    apart = np.concatenate([d.bands([text]) for text in texts])
    assert (d.bands(texts) == apart).all()
    assert d.bands([]).shape == (0, d.BANDS)


def test_against_every_pair_on_real_questions(data_dir):
    lines = (data_dir / "s1k-questions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["question"] for line in lines]
    rng = random.Random(1)
    texts += [planted(text, rng) for text in texts[:100]]
    found = copies(texts)
    said = [fine(text) for text in texts]
    sets = [d.shingles(text) for text in said]
    figures = [d.numbers(text) for text in said]
    by_all_pairs = set()
    for row in range(len(texts)):
        for other in range(row):
            if other not in by_all_pairs and figures[other] == figures[row]:
                alike = len(sets[row] & sets[other]) / len(sets[row] | sets[other])
                if alike >= d.THRESHOLD:
                    by_all_pairs.add(row)
                    break
    assert by_all_pairs <= set(found)
    # Beyond these only exact copies, whose tokens may still be cut otherwise.
    assert all(found[row][1] == 1.0 for row in set(found) - by_all_pairs)
    assert len(found) >= 116  # 16 are in the published rows themselves
