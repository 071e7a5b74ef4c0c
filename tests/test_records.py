import pytest

from s1_plugin import records
from s1_plugin.records import BadRow, Record, detect, mapped

S1K = {"question": "Q", "thinking_trajectories": ["a", "b"], "attempt": "A", "solution": "s"}
S11 = {
    "question": "Q",
    "deepseek_thinking_trajectory": "d",
    "deepseek_attempt": "D",
    "gemini_thinking_trajectory": "g",
    "gemini_attempt": "G",
}
TAGGED = "<think>\nhm\n</think>\n\nA"
THOUGHT = (
    "<|begin_of_thought|>\n\nhm\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nA\n\n<|end_of_solution|>"
)


def read(row):
    return detect(list(row), "data").read(row)


def test_s1k_joins_its_trajectories_with_a_newline():
    assert read(S1K) == Record("Q", "a\nb", "A")


def test_s1k_1_1_takes_the_deepseek_trace_even_where_s1k_columns_stand_beside_it():
    assert read(S11 | S1K) == Record("Q", "d", "D")


@pytest.mark.parametrize("text", [TAGGED, THOUGHT])
def test_conversations_are_split_at_their_markup(text):
    row = {"conversations": [{"from": "user", "value": "Q"}, {"from": "assistant", "value": text}]}
    record = read(row)
    assert (record.question, record.thinking.strip(), record.answer.strip()) == ("Q", "hm", "A")


def test_messages_may_have_a_system_prompt():
    row = {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": TAGGED},
        ]
    }
    assert read(row).question == "Q"


@pytest.mark.parametrize(
    ("row", "has"),
    [
        ({}, False),
        ({"system": "S"}, True),  # OpenThoughts-114k
        ({"system": " "}, False),
        ({"system": None}, False),
    ],
)
def test_a_system_message_is_noticed(row, has):
    turns = [{"from": "user", "value": "Q"}, {"from": "assistant", "value": TAGGED}]
    row = {"conversations": turns, **row}
    reader = detect(list(row), "data")
    reader.read(row)
    assert reader.has_system(row) is has
    first = {"from": "system", "value": "S"}
    assert reader.has_system({**row, "conversations": [first, *turns]})


def test_columns_named_system_mean_nothing_elsewhere():
    assert not detect([*S1K, "system"], "data").has_system(S1K | {"system": "S"})


def test_limo_reads_solution_as_thinking_and_numbers_as_text():
    assert read({"question": "Q", "solution": "long", "answer": 7}) == Record("Q", "long", "7")


def test_named_columns():
    reader = mapped("q", "t", "a", ["q", "t", "a"], "data")
    assert reader.read({"q": "Q", "t": "T", "a": "A"}) == Record("Q", "T", "A")
    with pytest.raises(ValueError, match="not there"):
        mapped("q", "x", "a", ["q", "t", "a"], "data")


def test_unknown_columns_name_the_remedy():
    with pytest.raises(ValueError, match="field_human"):
        detect(["prompt", "completion"], "data.jsonl")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"question": None}, "question"),
        ({"question": "  "}, "question"),
        ({"question": 3}, "question"),
        ({"attempt": ""}, "attempt"),
        ({"attempt": None}, "attempt"),
        ({"thinking_trajectories": []}, "thinking_trajectories"),
        ({"thinking_trajectories": [None]}, "thinking_trajectories"),
        ({"thinking_trajectories": ["a", 3]}, "thinking_trajectories"),
        ({"thinking_trajectories": None}, "thinking_trajectories"),
    ],
)
def test_bad_rows_name_the_field_and_the_remedy(change, field):
    with pytest.raises(BadRow) as caught:
        read(S1K | change)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    "messages",
    [
        [],
        None,
        "text",
        [{"from": "user", "value": "Q"}],
        [{"from": "assistant", "value": TAGGED}, {"from": "user", "value": "Q"}],
        [{"from": "user", "value": "Q"}, {"from": "assistant", "value": "no markup"}],
        [{"from": "user", "value": "Q"}, {"from": "assistant", "value": "<think>open"}],
        [{"value": "Q"}, {"from": "assistant", "value": TAGGED}],
        [{"from": "user", "value": "Q"}, {"from": "gpt", "value": TAGGED}] * 2,
        [{"from": ["user"], "value": "Q"}, {"from": "gpt", "value": TAGGED}],
        [
            {"from": "user", "value": "Q"},
            {"from": "tool", "value": "T"},
            {"from": "gpt", "value": TAGGED},
        ],
        [
            {"from": "user", "value": "Q"},
            {"from": "gpt", "value": TAGGED, "tool_calls": [{"name": "f"}]},
        ],
    ],
)
def test_conversations_that_are_not_one_exchange_are_bad(messages):
    with pytest.raises(BadRow):
        records.READERS[2].read({"conversations": messages})


def test_nothing_left_after_stripping_is_bad():
    record = read(
        {
            "conversations": [
                {"from": "user", "value": "Q"},
                {"from": "assistant", "value": "<think> </think>A"},
            ]
        }
    )
    with pytest.raises(BadRow, match="thinking"):
        records.check_learnable(record, record.answer)
