import pytest

from s1_plugin.evaluation.budgets import expand


def budgets(**kwargs):
    return [(k["max_tokens_thinking"], k["thinking_n_ignore"]) for k in expand(kwargs)]


def test_one_budget_is_one_run():
    assert budgets() == [("auto", 0)]
    assert budgets(max_tokens_thinking=500, thinking_n_ignore=2) == [(500, 2)]


def test_caps_run_without_waits_and_waits_under_auto():
    assert budgets(max_tokens_thinking=[500, "auto"], thinking_n_ignore=[0, 2]) == [
        (500, 0),
        ("auto", 0),
        ("auto", 2),
    ]


def test_one_list_keeps_the_other_setting():
    assert budgets(max_tokens_thinking=[1, 2], thinking_n_ignore=3) == [(1, 3), (2, 3)]
    assert budgets(thinking_n_ignore=[0, 1], max_tokens_thinking=9) == [(9, 0), (9, 1)]


@pytest.mark.parametrize("waits", [{}, {"thinking_n_ignore": 0}, {"thinking_n_ignore": [0]}])
@pytest.mark.parametrize("text", ["Hmm", "", ["Wait", "Hmm"]])
def test_a_wait_string_without_waits_is_refused(waits, text):
    kwargs = {"thinking_n_ignore_str": text, "max_tokens_thinking": [500, "auto"]}
    with pytest.raises(ValueError, match=r"no effect without Waits: set thinking_n_ignore"):
        expand({**kwargs, **waits})
    assert len(expand({**kwargs, "min_tokens_thinking": 9})) == 2
    assert len(expand({**kwargs, "thinking_n_ignore": [0, 2]})) == 3


@pytest.mark.parametrize("name", ["max_tokens_thinking", "thinking_n_ignore", "control_limit"])
def test_what_asks_for_no_run_or_for_nonsense_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} asks for no run"):
        expand({name: []})
    for entry in ([500], {"a": 1}, True, None, 1.0):
        with pytest.raises(ValueError, match=rf"^{name} may be one value or a list of whole"):
            expand({name: [1, entry]})
    with pytest.raises(ValueError, match=f"^{name} may be"):
        expand({name: {"a": 1}})
