"""lm-eval's own ``local-completions`` model through our driver, against a local server."""

import functools
import json

import pytest

from s1_plugin.evaluation import hook
from s1_plugin.evaluation import openai as driver
from s1_plugin.evaluation.request import request
from s1_plugin.evaluation.sharing import job_of
from tests.conftest import ROOT
from tests.forcing.test_openai import encoder, hash_server, naive  # noqa: F401


def local_completions(server, nano_base, monkeypatch, **how):
    """lm-eval's class, built as lm-eval builds it (it asks for tenacity, which it only needs for
    requests of its own)."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    monkeypatch.setattr("lm_eval.models.api_models.find_spec", lambda name: True)
    return LocalCompletionsAPI(
        base_url=server.url,
        model="tiny",
        tokenizer=str(nano_base),
        tokenizer_backend="huggingface",
        num_concurrent=4,
        max_retries=1,
        timeout=10,
        **how,
    )


@functools.cache
def task_manager():
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(ROOT / "eval_tasks"), include_defaults=False)


def evaluate(lm, gen_kwargs, limit=4):
    import lm_eval

    return lm_eval.simple_evaluate(
        model=lm,
        tasks=["s1_nano"],
        apply_chat_template=True,
        gen_kwargs=gen_kwargs,
        limit=limit,
        log_samples=True,
        bootstrap_iters=10,
        task_manager=task_manager(),
    )


def test_lm_eval_gets_every_budget_and_counts_what_failed(
    encoder,  # noqa: F811
    nano_base,
    monkeypatch,
    tmp_path,
):
    monkeypatch.setattr("random.uniform", lambda low, high: 0.001)
    with hash_server(encoder) as server:
        lm = local_completions(server, nano_base, monkeypatch)
        whole = evaluate(lm, {"max_tokens_thinking": [5, 40], "thinking_n_ignore": 1})
        row = whole["results"]["s1_nano"]
        assert row["failed@cap5+1xWait,none"] == row["failed@cap40+1xWait,none"] == 0
        assert row["thinking_tokens@cap5+1xWait,none"] <= 5
        # One request of four fails for good: the others' metrics are means over three.
        asked = whole["samples"]["s1_nano"][2]["arguments"]
        broken = encoder.text_ids(str(asked[0][2]))
        events = server.events

        def fail_one(request):
            text = f",{','.join(map(str, request['prompt']))},"
            if f",{','.join(map(str, broken))}," in text:
                raise OSError
            return events(request)

        server.events = fail_one
        monkeypatch.setenv("S1_CACHE", str(tmp_path / "another"))
        part = evaluate(lm, {"max_tokens_thinking": 40, "thinking_n_ignore": 1})
    row = part["results"]["s1_nano"]
    assert row["failed,none"] == 0.25
    assert "given up after 2 attempts" in json.dumps(part["samples"]["s1_nano"][2]["resps"])
    name = "thinking_tokens@cap40+1xWait"
    rest = [s[name] for s in whole["samples"]["s1_nano"] if s["doc_id"] != 2]
    assert row["thinking_tokens,none"] == pytest.approx(sum(rest) / 3)
    assert row["exact_match_stderr,none"] is not None


def test_budgets_share_a_trajectory_and_are_each_what_they_would_be_alone(
    encoder,  # noqa: F811
    nano_base,
    monkeypatch,
):
    context = encoder.tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+2"}], tokenize=False, add_generation_prompt=True
    )
    budgets = [(cap, waits) for cap in (5, 20, 60) for waits in (0, 1, 2)]
    requests = [
        request(
            context,
            "1+2",
            {"max_tokens_thinking": cap, "thinking_n_ignore": waits, "max_gen_toks": 120},
        )
        for cap, waits in budgets
    ]
    with hash_server(encoder) as server:
        lm = local_completions(server, nano_base, monkeypatch)
        together = driver.run(lm, requests)
        shared = len(server.requests)
        alone = [driver.run(lm, [one])[0] for one in requests]
        assert shared < (len(server.requests) - shared) / 1.5
        for one, response, single in zip(requests, together, alone, strict=True):
            assert response == single
            job = driver._round_job(job_of(one, encoder, 2048))
            assert response.token_ids == naive(server.model, encoder, job)[0]


def test_what_cannot_work_is_said_with_its_remedy(encoder, nano_base, monkeypatch):  # noqa: F811
    class LocalChatCompletion:
        tokenizer = None

    with pytest.raises(NotImplementedError, match=r"local-completions .* allow_unforced=true"):
        hook.generate(LocalChatCompletion(), [])
    with pytest.raises(ValueError, match="tokenized_requests=True"):
        request(["not", "rendered"], "1+2", {})
    with pytest.raises(NotImplementedError, match="local-completions"):
        hook.generate(object(), [])


def test_all_failing_is_an_error_not_an_accuracy(encoder, nano_base, monkeypatch):  # noqa: F811
    with hash_server(encoder) as server:
        lm = local_completions(server, nano_base, monkeypatch)
        events = server.events

        def only_probe(request):
            if request["max_tokens"] > 1:
                raise OSError
            return events(request)

        server.events = only_probe
        with pytest.raises(RuntimeError, match="all 2 requests failed"):
            evaluate(lm, {"max_tokens_thinking": 40}, limit=2)


def test_a_second_run_asks_the_server_nothing(encoder, nano_base, monkeypatch):  # noqa: F811
    budgets = {"max_tokens_thinking": [5, 40], "thinking_n_ignore": 1}
    with hash_server(encoder) as server:
        lm = local_completions(server, nano_base, monkeypatch)
        first = evaluate(lm, budgets)
        asked = len(server.requests)
        assert evaluate(lm, budgets)["samples"] == first["samples"]
        assert [r for r in server.requests[asked:] if "prompt" in r] == []
        # one more question, and only that, is asked
        assert len(evaluate(lm, budgets, limit=5)["samples"]["s1_nano"]) == 5
        assert 0 < len(server.requests) - asked < asked
