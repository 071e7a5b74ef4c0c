from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget, lacking, plan
from s1_plugin.formats import S1, THINK_TAGS


@pytest.fixture(scope="module")
def encoder(qwen):
    return TextEncoder(qwen)


def make(encoder, budget, fmt=S1, **sizes):
    defaults = {"prompt_length": 100, "max_new_tokens": 32768, "context": None}
    return plan(budget, encoder, fmt, **{**defaults, **sizes})


def test_auto_is_the_authors_formula(encoder):
    # max_gen_toks - prompt - delimiters (two tokens each) - 100
    assert make(encoder, Budget()).cap == 32768 - 100 - 4 - 100


def test_ids_of_the_delimiters(encoder, qwen):
    p = make(encoder, Budget(500, 2))
    assert qwen.decode(p.natural_end) == "<|im_start|>answer"
    assert qwen.decode(p.newline + p.capped_end) == "\n<|im_start|>answer\nFinal Answer:"
    assert [qwen.decode(w) for w in p.wait_ids] == ["Wait"]
    assert p.end_ids == {151643, 151644, 151645}
    assert p.stop_ids == {151643, 151645}


def test_wait_and_forced_answer_are_plain_text(encoder, qwen):
    p = make(encoder, Budget(500, 1, ("<|im_end|>", "x"), forced_answer="<|im_start|>"))
    assert not {151643, 151644, 151645} & {*p.wait_ids[0], *p.capped_end[2:]}
    assert qwen.decode(p.wait_ids[0]) == "<|im_end|>"
    assert qwen.decode(p.capped_end) == "<|im_start|>answer<|im_start|>"


# -- formats of one's own -------------------------------------------------------------------------

BOX = replace(
    S1,
    name="box",
    think_start="Thinking:",
    answer_start="<|box_start|>final\nanswer:",
    end_of_thinking=("<|box_start|>final", "<|im_end|>"),
    stop=("<|box_end|>", "<|im_end|>"),
    forced_answer=" ",
    optional=(),
)


def test_a_delimiter_of_several_tokens_ends_thinking_at_its_control_token(encoder, qwen):
    p = make(encoder, Budget(500), BOX)
    assert p.end_ids == {qwen.convert_tokens_to_ids("<|box_start|>"), 151645}
    assert qwen.decode(p.natural_end) == "<|box_start|>final\nanswer:"
    assert len(p.natural_end) > 3
    assert qwen.decode(p.capped_end) == "<|box_start|>final\nanswer: "


@pytest.mark.parametrize("text", ["</think>", "\n\nFinal Answer:"])
@pytest.mark.parametrize("field", ["end_of_thinking", "stop"])
def test_a_delimiter_that_begins_with_ordinary_text_is_refused(encoder, field, text):
    fmt = replace(S1, **{field: (*getattr(S1, field), text)})
    assert encoder.missing_tokens(fmt) == [text]
    with pytest.raises(ValueError, match=rf"{field}.*seen too late; use a delimiter"):
        make(encoder, Budget(500), fmt)


def test_only_tokens_called_optional_may_be_absent(encoder):
    fmt = replace(S1, end_of_thinking=("<|im_start|>", "<|nowhere to be found|>"))
    with pytest.raises(ValueError, match="nowhere to be found"):
        make(encoder, Budget(500), fmt)
    fmt = replace(fmt, optional=("<|nowhere to be found|>",))
    assert make(encoder, Budget(500), fmt).end_ids == {151644}
    gone = ("<|nowhere to be found|>",)
    with pytest.raises(ValueError, match="nowhere to be found"):
        make(encoder, Budget(500), replace(fmt, stop=gone))


def test_an_answer_delimiter_that_ends_no_thinking_is_refused(encoder):
    fmt = replace(S1, end_of_thinking=("<|im_end|>",))
    with pytest.raises(ValueError, match="begin with a token in end_of_thinking"):
        make(encoder, Budget(500), fmt)
    with pytest.raises(ValueError, match="seen to end its thinking"):
        make(encoder, Budget(500), replace(S1, answer_start="\n\nSo the answer is"))


def test_what_a_prompt_lacks_of_the_thinking_prefix(encoder):
    ids = encoder.scaffold_ids
    asked = ids("<|im_start|>assistant\n")
    for prompt, rest in [
        ([], "<|im_start|>think"),
        (asked, "<|im_start|>think"),
        (asked + ids("<|im_start|>"), "think"),
        (asked + ids("<|im_start|>think"), ""),
        (asked + ids("<|im_start|>think\n"), ""),
    ]:
        assert lacking(encoder, S1, prompt) == ids(rest)
    assert lacking(encoder, THINK_TAGS, ids("\n<think>\n")) == []


# -- sizes ----------------------------------------------------------------------------------------


@given(
    cap=st.one_of(st.just("auto"), st.integers(0, 400)),
    reserve=st.integers(1, 120),
    suffix=st.sampled_from(["", "\nFinal Answer:", "\nSo, in the end, the answer must be this:"]),
    prompt=st.integers(0, 300),
    new=st.integers(0, 500),
    context=st.one_of(st.none(), st.integers(1, 700)),
)
def test_delimiters_and_an_answer_always_fit(encoder, cap, reserve, suffix, prompt, new, context):
    budget = Budget(cap, forced_answer=suffix, answer_reserve=reserve)
    try:
        p = make(encoder, budget, prompt_length=prompt, max_new_tokens=new, context=context)
    except ValueError as refused:
        assert "raise" in str(refused)
        return
    assert p.cap >= 0
    assert p.cap + len(p.newline) + len(p.capped_end) + 1 <= p.max_new_tokens <= new
    assert context is None or prompt + 2 + p.max_new_tokens <= context
    if not p.context_bound:
        assert p.cap == cap or cap == "auto"


def test_a_reserve_too_small_for_what_is_put_in_is_refused(encoder):
    with pytest.raises(ValueError, match="answer_reserve 5 is too small: 5 tokens"):
        make(encoder, Budget(answer_reserve=5), prompt_length=0)


def test_a_minimum_over_what_auto_leaves_is_a_contradiction(encoder):
    with pytest.raises(
        ValueError, match=r"min_tokens_thinking 900 contradicts.*auto, which is 796"
    ):
        make(encoder, Budget(min_thinking=900), max_new_tokens=1000)
    # where the context binds, the response says so
    assert make(encoder, Budget(min_thinking=900), context=1000).context_bound


def test_the_context_binds_and_says_so(encoder):
    p = make(encoder, Budget(1000), context=600, max_new_tokens=2000)
    assert p.context_bound
    assert 0 < p.cap < 500
    # prompt, prefix, thinking, closing and an answer fit
    assert 100 + 2 + p.cap + len(p.newline) + len(p.capped_end) < 600
    assert p.max_new_tokens == 600 - 102


def test_auto_in_a_context_of_exactly_max_gen_toks_is_the_papers_cap(encoder):
    p = make(encoder, Budget(), context=32768)
    assert (p.cap, p.context_bound) == (32768 - 100 - 4 - 100, False)
    assert p.cap + len(p.newline) + len(p.capped_end) < p.max_new_tokens


def test_auto_in_a_shorter_context_says_that_the_context_binds(encoder):
    p = make(encoder, Budget(), context=4096)
    assert (p.cap, p.context_bound) == (4096 - 100 - 4 - 100, True)


def test_labels_are_safe_to_print_and_to_parse():
    assert Budget(5, 1, "Wait, \x1b[31m").label == "cap5+1xWait_31m"


def test_a_context_that_is_long_enough_does_not_bind(encoder):
    p = make(encoder, Budget(500), context=4096, max_new_tokens=2000)
    assert (p.cap, p.context_bound) == (500, False)


@pytest.mark.parametrize(
    ("budget", "sizes", "remedy"),
    [
        (Budget(500), {"max_new_tokens": 500}, "raise max_gen_toks"),
        (Budget(), {"max_new_tokens": 150}, "raise max_gen_toks"),
        (Budget(500), {"context": 104}, "longer context"),
        (Budget(10**30), {}, "raise max_gen_toks to at least 10{26}"),
    ],
)
def test_budgets_that_leave_no_answer_are_refused(encoder, budget, sizes, remedy):
    with pytest.raises(ValueError, match=remedy):
        make(encoder, budget, **sizes)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"cap": -1},
        {"cap": "many"},
        {"cap": "Auto"},
        {"cap": "500"},
        {"cap": None},
        {"cap": 500.0},
        {"cap": 1.5},
        {"cap": True},
        {"waits": -1},
        {"waits": "2"},
        {"wait_text": 3},
        {"wait_text": ()},
        {"wait_text": []},
        {"wait_text": ("Wait", 3)},
        {"waits": True},
        {"waits": 1.0},
        {"min_thinking": -1},
        {"answer_reserve": 0},
        {"forced_answer": 1},
    ],
)
def test_nonsense_is_refused(kwargs):
    with pytest.raises(ValueError, match="must be"):
        Budget(**kwargs)


def test_names_of_the_authors_evaluation():
    kwargs = {"max_tokens_thinking": 500, "thinking_n_ignore": 2, "thinking_n_ignore_str": "Hmm"}
    assert Budget.from_gen_kwargs(kwargs) == Budget(500, 2, "Hmm")
    assert Budget.from_gen_kwargs({}) == Budget("auto", 0, "Wait")
    assert Budget(500, 2, "Hmm").label == "cap500+2xHmm"


def test_a_minimum_over_the_cap_is_a_contradiction():
    with pytest.raises(ValueError, match="contradicts"):
        Budget(100, min_thinking=200)


def test_waits_without_any_thinking_are_a_contradiction():
    with pytest.raises(ValueError, match="thinking_n_ignore 2 contradicts max_tokens_thinking 0"):
        Budget(0, 2)


def test_several_wait_strings_and_the_other_settings():
    kwargs = {
        "thinking_n_ignore": 2,
        "thinking_n_ignore_str": ["Wait", "Hmm"],
        "min_tokens_thinking": 50,
        "forced_answer": "\nSo:",
        "answer_reserve": 20,
    }
    budget = Budget.from_gen_kwargs(kwargs)
    assert budget == Budget("auto", 2, ("Wait", "Hmm"), 50, "\nSo:", 20)
    assert budget.label == "auto+min50+2xWait|Hmm"
    assert Budget(waits=2, wait_text=["Wait", "Hmm"]).wait_texts == ("Wait", "Hmm")


def test_forced_answer_and_reserve_are_used(encoder, qwen):
    p = make(encoder, Budget(forced_answer="\nSo:", answer_reserve=20))
    assert qwen.decode(p.capped_end) == "<|im_start|>answer\nSo:"
    assert p.cap == 32768 - 100 - 4 - 20


@pytest.mark.parametrize("name", ["thinking_n_ignore_str", "forced_answer"])
def test_text_that_was_read_as_something_else(name):
    field = {"thinking_n_ignore_str": "wait_text"}.get(name, name)
    assert getattr(Budget.from_gen_kwargs({name: 42}), field) == "42"
    assert getattr(Budget.from_gen_kwargs({name: -1.5}), field) == "-1.5"
    for value in (True, False, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"{name} must be a string.*{value!r}.*JSON"):
            Budget.from_gen_kwargs({name: value})
