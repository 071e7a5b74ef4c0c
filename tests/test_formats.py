from dataclasses import replace

import pytest

from s1_plugin.formats import FORMATS, S1, THINK_TAGS, TraceFormat, get_format


def test_formats_are_found_by_name_and_ones_own_is_taken_as_it_is():
    assert FORMATS == {"s1": S1, "think-tags": THINK_TAGS}
    assert get_format("think-tags") is THINK_TAGS
    own = replace(S1, name="mine")
    assert get_format(own) is own


@pytest.mark.parametrize("name", ["S1", "", None, 3, ["s1"]])
def test_unknown_formats_are_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"known formats: s1, think-tags.*TraceFormat"):
        get_format(name)


@pytest.mark.parametrize(
    "fields",
    [
        {"end_of_thinking": "</think>"},  # a string is not a tuple of its characters
        {"end_of_thinking": ()},
        {"end_of_thinking": ("</think>", "")},
        {"stop": ["<|im_end|>"]},
        {"stop": ()},
        {"optional": "<|endoftext|>"},
        {"think_start": ""},
        {"answer_start": ""},
        {"answer_start": None},
        {"name": ""},
    ],
)
def test_fields_that_make_no_sense_are_refused_by_name(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be"):
        replace(S1, **fields)


def test_the_answer_gets_its_prefix_once():
    assert S1.answer_text(" 42 ") == "Answer:  42"
    assert S1.answer_text("\nAnswer: 42\n") == "Answer: 42"
    assert THINK_TAGS.answer_text(" 42 ") == "42"
    assert isinstance(S1, TraceFormat)
