"""What is refused when a request is submitted, and what budgets look like on their way."""

import json

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.forcing.vllm import BudgetForcingProcessor
from s1_plugin.formats import S1


def ask(extra=None, **sampling):
    extra = {"max_tokens_thinking": 20} if extra is None else extra
    params = SamplingParams(**{"max_tokens": 200, **sampling}, extra_args=extra)
    BudgetForcingProcessor.validate_params(params)


@pytest.mark.parametrize(
    "sampling",
    [
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"repetition_penalty": 1.05},
        {"min_tokens": 5},
        {"stop": ["\n\n"]},
        {"bad_words": ["Wait"]},
        {"logit_bias": {5: 1.0}},
        {"allowed_token_ids": [1, 2]},
        {"structured_outputs": StructuredOutputsParams(regex="a+")},
        {"thinking_token_budget": 100},
        {
            "repetition_detection": RepetitionDetectionParams(
                max_pattern_size=5, min_pattern_size=1, min_count=3
            )
        },
    ],
    ids=lambda sampling: next(iter(sampling)),
)
def test_what_cannot_be_honoured_is_refused_by_name(sampling):
    with pytest.raises(ValueError, match=next(iter(sampling))):
        ask(**sampling)
    ask({}, **sampling)  # not forced: none of our business


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"max_tokens_thinking": -1}, "whole number"),
        ({"max_tokens_thinking": "500"}, "whole number"),
        ({"max_tokens_thinking": 200}, "raise max_tokens"),
        ({"thinking_n_ignore": 1, "answer_reserve": 300}, "no room"),
        ({"thinking_n_ignor": 1, "max_tokens_thinking": 3}, "did you mean 'thinking_n_ignore'"),
        ({"s1_format": "unknown"}, "known formats"),
        ({"max_tokens_thinking": 3, "s1_trace": "../../etc/passwd"}, "hexadecimal"),
        ({"max_tokens_thinking": 3, "s1_trace": ["0" * 32]}, "hexadecimal"),
        ({"max_token_thinking": 3}, "did you mean 'max_tokens_thinking'"),
        ({"control": "token", "control_limit": 64}, "control has no effect inside vLLM"),
        ({"max_tokens_thinking": 3, "format": "think-tags"}, "use s1_format"),
        ({"max_tokens_thinking": 3, "max_gen_toks": 64}, "use max_tokens"),
        ({"thinking_n_ignore": 1, "thinking_n_ignore_str": ["x" * 1000] * 3}, "2000 characters"),
        ({"thinking_n_ignore": 1, "thinking_n_ignore_str": ["x"] * 50}, "32 strings"),
        ({"max_tokens_thinking": 3, "forced_answer": "x" * 3000}, "2000 characters"),
        ({"max_tokens_thinking": 3, 5: 1}, "names are strings"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        ask(extra)


def test_the_helper_makes_what_the_processor_accepts(nano_tokenizer):
    encoder = TextEncoder(nano_tokenizer)
    budget = Budget(30, 2, ("Wait", "Hmm"), min_thinking=10, forced_answer="\nSo:")
    made = plan(budget, encoder, S1, prompt_length=20, max_new_tokens=100, context=90)
    params = vllm_request.sampling_params(budget, made, trace=vllm_request.new_trace())
    BudgetForcingProcessor.validate_params(params)
    assert json.loads(json.dumps(params.extra_args)) == params.extra_args
    assert all(not isinstance(v, dict) for v in params.extra_args.values())  # flat, as xargs are
    again, fmt = vllm_request.parse(params.extra_args)
    same = plan(again, encoder, fmt, prompt_length=20, max_new_tokens=params.max_tokens, context=90)
    for field in ("cap", "waits", "min_thinking", "wait_ids", "capped_end", "max_new_tokens"):
        assert getattr(same, field) == getattr(made, field), field


def test_a_cap_of_nothing_asks_for_no_waits(nano_tokenizer):
    """The context may leave no room for thinking; the request must pass all the same."""
    encoder, budget = TextEncoder(nano_tokenizer), Budget(5, 2)
    least = plan(Budget(0), encoder, S1, prompt_length=20, max_new_tokens=100)
    room = len(least.newline) + len(least.capped_end) + 1
    made = plan(
        budget, encoder, S1, prompt_length=20, max_new_tokens=100,
        context=20 + len(encoder.scaffold_ids(S1.think_start)) + room,
    )  # fmt: skip
    assert (made.cap, made.waits) == (0, 2)
    ask(vllm_request.extra_args(budget, made))


def test_a_trace_that_cannot_be_written_or_is_somebody_elses(tmp_path, monkeypatch):
    monkeypatch.setenv("S1_TRACE_DIR", str(tmp_path))
    trace = vllm_request.new_trace()
    record = vllm_request.recorder(trace)
    record(3, 7)
    assert vllm_request.read_trace(trace) == {3: 7}
    record(5, 8)  # too late: not made again
    assert not list(tmp_path.iterdir())
    (tmp_path / trace).mkdir()
    broken = vllm_request.recorder(trace)  # an engine goes on without
    assert broken is None or broken(3, 7) is None
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(RuntimeError, match="another user"):
        vllm_request.trace_folder()
    assert vllm_request.recorder(trace) is None


def test_an_engine_without_the_processor_is_noticed():
    with pytest.raises(RuntimeError, match="logits_processors="):
        vllm_request.read_trace(vllm_request.new_trace())
