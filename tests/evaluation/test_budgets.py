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


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="no run"):
        expand({"max_tokens_thinking": []})
