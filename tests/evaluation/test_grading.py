import pytest

from s1_plugin.evaluation.grading import boxed, extract_integer, integer_correct


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("\nFinal Answer: 7", 7),
        ("\nAnswer: 023", 23),
        ("The result is \\boxed{204}.", 204),
        ("\\boxed{\\text{Final: } 42}", 42),
        ("\\boxed{1} then \\boxed{2}", 2),
        ("Answer: 3\nso\nAnswer: 4", 4),
        ("Final Answer: 1,234", 1234),
        ("Final Answer: \\boxed{025}", 25),
        ("it is 12 and then 34", 34),
        ("Answer:", None),
        ("Answer: none", None),
        ("", None),
        ("   ", None),
        (None, None),
        ("Answer: 12.0", 12),
        ("Answer: -5", -5),
        ("\\boxed{" + "9" * 5000 + "}", None),
        ("\\boxed{0.5}", None),
        ("Answer: 3.14", None),
        ("\\boxed{\\frac{3}{4}}", None),
        ("\\boxed{2^{10}}", None),
        ("Answer: 1/2", None),
        ("Answer: 204 (see problem 7)", 204),
        ("Answer: 5e3", None),
        ("**Final Answer:** 204", 204),
        ("Answer: $204$", 204),
        ("Answer: \\(204\\)", 204),
        ("\\boxed{25^\\circ}", 25),
        ("\\boxed{1{,}234}", 1234),
        ("\\boxed{x = 42}", 42),
        ("The answer is $\\boxed{540}$ meters.\nAnswer: 541", 540),
    ],
)
def test_integers(answer, value):
    assert extract_integer(answer) == value


def test_no_answer_is_wrong():
    assert not integer_correct(None, "0")
    assert not integer_correct("", "0")


def test_gold_may_have_leading_zeros():
    assert integer_correct("Answer: 23", "023")


def test_a_model_that_loops_is_graded_in_no_time():
    import time

    began = time.monotonic()
    for text in ("\\boxed{" * 50_000, "{" * 300_000, "1" * 300_000, "Answer: " * 40_000):
        extract_integer(text)
    assert time.monotonic() - began < 2


def test_nested_braces():
    assert boxed(r"\boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert boxed(r"\boxed{open") is None
