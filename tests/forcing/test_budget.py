import pytest

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.formats import S1


@pytest.fixture(scope="module")
def encoder(qwen):
    return TextEncoder(qwen)


def make(encoder, budget, **sizes):
    defaults = {"prompt_length": 100, "max_new_tokens": 32768, "context": None}
    return plan(budget, encoder, S1, **{**defaults, **sizes})


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


def test_the_wait_text_is_plain_text(encoder):
    assert 151645 not in make(encoder, Budget(500, 1, "<|im_end|>")).wait_ids[0]


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
        {"cap": 1.5},
        {"cap": True},
        {"waits": -1},
        {"waits": "2"},
        {"wait_text": 3},
        {"wait_text": ()},
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


def test_forced_answer_and_reserve_are_used(encoder, qwen):
    p = make(encoder, Budget(forced_answer="\nSo:", answer_reserve=20))
    assert qwen.decode(p.capped_end) == "<|im_start|>answer\nSo:"
    assert p.cap == 32768 - 100 - 4 - 20
