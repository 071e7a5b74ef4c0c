import json
import threading
import time

import pytest

from s1_plugin.evaluation.answers import MOST_CHARACTERS
from s1_plugin.evaluation.grading import KINDS, check_gold, grade
from tests.conftest import FULL
from tests.evaluation.adversarial import strings

GOLDS = {"integer": "5", "letter": "A", "math": "\\left( 3, \\frac{\\pi}{2} \\right)"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [None, "", "   ", "Answer:", "I cannot say"])
def test_no_answer_is_wrong(kind, answer):
    found = grade(answer, {"integer": "0", "letter": "A", "math": "0"}[kind], kind)
    assert (found.extracted, found.correct) == (None, False)


def test_gold_may_have_leading_zeros():
    assert grade("Answer: 23", "023", "integer").correct
    assert grade("Answer: 023", 23, "integer").correct


def test_a_gold_of_the_wrong_kind_is_refused():
    for gold, kind, words in [("x", "integer", "integer"), ("E", "letter", "A, B, C, D")]:
        with pytest.raises(ValueError, match=words):
            grade("1", gold, kind)
        assert words in check_gold(gold, kind)
    with pytest.raises(ValueError, match="integer, math, letter"):
        grade("1", "1", "number")
    assert check_gold("023", "integer") == check_gold("B", "letter") == ""


def test_the_end_of_an_endless_answer_is_read_and_said_to_be_cut():
    found = grade("x " * MOST_CHARACTERS + "\\boxed{5}", "5", "integer")
    assert found.correct and found.cut
    assert not grade("\\boxed{5}", "5", "integer").cut


def test_gold_answers_of_aime24(data_dir):
    with (data_dir / "aime24.jsonl").open(encoding="utf-8") as lines:
        golds = [json.loads(line)["answer"] for line in lines]
    assert len(golds) == 30 and not any(check_gold(gold, "integer") for gold in golds)


@pytest.mark.parametrize("kind", ["integer", "math"])
def test_real_outputs_agree_with_their_field(data_dir, kind):
    path = data_dir / "traces" / "s1.1-32b-gsm8k.jsonl"
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == 582
    found = [grade(row["attempt"], row["answer"], kind).correct for row in rows]
    assert [r["id"] for r, right in zip(rows, found, strict=True) if right != r["correct"]] == []
    assert 0 < sum(found) < 582


def test_adversarial_strings_are_graded_in_time():
    """10,000 in the complete tests, of every kind and from threads; fewer otherwise."""
    texts, slowest, troubles = list(strings(10_000 if FULL else 150)), [], []

    def work(part):
        for text in part:
            for kind, gold in GOLDS.items():
                began = time.monotonic()
                troubles.append(grade(text, gold, kind).trouble)
                slowest.append(time.monotonic() - began)

    began = time.monotonic()
    # One thread at a time grades what is timed; the other shows that it need not be the main one.
    for part in (texts[::2], texts[1::2]):
        thread = threading.Thread(target=work, args=(part,))
        thread.start()
        thread.join()
    assert len(slowest) == 3 * len(texts)
    assert max(slowest) < 5 and time.monotonic() - began < 600
    assert {"too large", "too deep", "too long"} <= set(troubles)
