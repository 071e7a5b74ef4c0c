"""What ``--gen_kwargs`` may say."""

import pytest

from s1_plugin.evaluation.request import request


@pytest.mark.parametrize(
    ("name", "values", "bounds"),
    [
        ("temperature", [-0.1, float("nan"), float("inf"), 10**400, True, "1"], ">= 0"),
        ("top_p", [0, -1, 5, 1.01, float("nan"), True], "> 0 and <= 1"),
        ("min_p", [-0.1, 3, float("nan"), float("inf")], ">= 0 and <= 1"),
        ("top_k", [-1, 2.0, float("nan"), True], ">= 0"),
        ("max_gen_toks", [0, 1.5, float("inf")], ">= 1"),
        ("seed", [-1, 0.5], ">= 0"),
    ],
)
def test_numbers_out_of_bounds_are_refused_by_name(name, values, bounds):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be a .*number {bounds}, got"):
            request("1+2?", "1+2", {"temperature": 1.0, name: value})


def test_bounds_belong_to_what_is_allowed():
    how = {"temperature": 0.7, "top_p": 1, "top_k": 0, "min_p": 1.0}
    assert dict(request("1+2?", "1+2", how).sampling) == {"do_sample": True, **how}
    assert dict(request("1+2?", "1+2", {"temperature": 0}).sampling) == {"do_sample": False}
