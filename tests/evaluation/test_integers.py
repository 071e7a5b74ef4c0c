import pytest

from s1_plugin.evaluation.integers import extract_integer


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
        ("The answer is $\\boxed{540}$ meters.\nAnswer: 541", 541),
        ("Final Answer: 3\nNo: \\boxed{4}", 4),
        ("Answer: We add 3 and 4.\n\nThat makes 7.", 7),
        ("Answer: Mike is 24 and Jeff 10 years older, which makes 34.", 34),
        ("Answer: 204\n\nBecause 3 steps lead there.", 204),
        ("**Answer:**\n\n34\n\nas 5 and 29 show", 34),
        ("Thus the answer is 30, not 31.", 30),
        ("\\boxed{540}\nAnswer: see above", 540),
        ("Final Answer: $200 per month", 200),
    ],
)
def test_integers(answer, value):
    assert extract_integer(answer) == value
