from s1_plugin.evaluation.answers import answer_of, boxes, claims, parts_of


def test_the_answer_is_what_follows_the_last_delimiter():
    assert answer_of("<|im_start|>think\n5<|im_start|>answer\n6<|im_end|>") == "\n6"
    assert answer_of("<think>5</think>6") == "6"
    assert answer_of("5</think>6<|im_end|>\n") == "6"
    assert answer_of("Answer: 6") == "Answer: 6"


def test_no_answer_is_found_inside_the_thinking():
    assert answer_of("<|im_start|>think\nAnswer: \\boxed{5}") is None
    assert answer_of("<think>Answer: 5") is None
    assert answer_of("<|im_start|>think\nafter </think> comes 5") is None
    assert answer_of("<think>s1 writes <|im_start|>answer 5") is None
    again = "<|im_start|>think\n1<|im_start|>answer\n2<|im_start|>think\nAnswer: 3"
    assert answer_of(again) == "\n2"


def test_the_thinking_is_what_stands_before():
    assert parts_of("<think>5</think>6") == ("5", "6")
    assert parts_of("5</think>6") == ("5", "6")
    assert parts_of("<think>5") == ("5", None)
    assert parts_of("6<|im_end|>") == ("", "6")
    assert parts_of("<think>5</think>") == ("5", "")


def test_nested_braces():
    assert [box.text for box in boxes(r"\boxed{\frac{1}{2}}")] == [r"\frac{1}{2}"]
    assert [box.text for box in boxes(r"\boxed{\boxed{1} + 2}")] == ["1", r"\boxed{1} + 2"]
    assert [box.text for box in boxes(r"\fbox{\{1\}}")] == [r"\{1\}"]
    assert boxes(r"\boxed{open") == [] and boxes(r"{\boxed{open}") != []


def test_claims_come_last_first():
    text = "Answer: 1\n\\boxed{2} and\n**Answer**: 3\nso the answer is 4."
    assert [claim.text for claim in claims(text)] == ["4.", "3", "2", "1"]


def test_an_answer_that_only_opens_a_derivation_claims_nothing():
    assert claims("Answer: To find the total we add 3 and 4.\nThat makes 7.") == []
    assert [c.text for c in claims("Answer: To find it we add 3 and 4.")] != []
