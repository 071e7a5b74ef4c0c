import pytest

from s1_plugin.evaluation.letters import extract_letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("Answer: B", "B"),
        ("\\boxed{\\text{(C)}}", "C"),
        ("\\boxed{\\textbf{B}}", "B"),
        ("\\boxed{b}", "B"),
        ("\\boxed{C: 7 GeV}", "C"),
        ("**Answer: D**", "D"),
        ("**Final Answer:** (B) because A and C fail", "B"),
        ("The correct answer is (B).", "B"),
        ("the answer is choice A.", "A"),
        ("Answer:\n\n**B) 7**", "B"),
        ("Answer: A) 4", "A"),
        ("Answer: B because it has the lower mass.\n\n(A) is not stable.", "B"),
        ("Answer: B\nNo, wait.\nAnswer: C", "C"),
        ("Answer: To find it, we note (A) is wrong.\nHence (C).", "C"),
        ("I choose C.\n\n**C**", "C"),
        ("C", "C"),
        ("I pick C, since option A is charged.", "C"),
        ("Option C", "C"),
        # No answer is none, and never A.
        ("A proton is heavier.", None),
        ("Answer: A proton", None),
        ("Answer: none of these", None),
        ("Answer: Depends", None),
        ("Answer: A or B", None),
        ("\\boxed{A, B}", None),
        ("\\boxed{7}", None),
        ("", None),
        (None, None),
    ],
)
def test_letters(answer, letter):
    assert extract_letter(answer) == letter
