"""What the driver for lm-eval's vLLM model asks of the engine; no engine is started."""

from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.encoding import TextEncoder
from s1_plugin.evaluation import vllm as driver
from s1_plugin.evaluation.request import request
from s1_plugin.evaluation.sharing import Work, job_of
from s1_plugin.forcing import vllm_request


@pytest.fixture
def engine(nano_tokenizer):
    config = SimpleNamespace(vocab_size=len(nano_tokenizer))
    return driver.Engine(
        SimpleNamespace(
            tokenizer=nano_tokenizer,
            model_args={"logits_processors": [vllm_request.PROCESSOR]},
            _config=SimpleNamespace(get_text_config=lambda: config),
            data_parallel_size=1,
        )
    )


def test_thinking_and_every_answer_that_forks_off_it_have_streams_of_their_own(engine):
    """Equal seeds would draw the answer with the noise that the thinking was drawn with."""
    tokenizer = engine.lm.tokenizer
    context = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1"}], tokenize=False, add_generation_prompt=True
    )
    jobs = [
        job_of(
            request(
                context, "1+1", {"max_tokens_thinking": cap, "temperature": 1.0, "max_gen_toks": 99}
            ),
            TextEncoder(tokenizer),
            1024,
        )
        for cap in (3, 5, 9)
    ]
    work = Work(jobs, engine.encoder, engine.ends_with_newline)
    (longest,) = work.begin()
    whole = engine._ask(longest)
    draws = engine.encoder.text_ids("123456789")
    forks = [engine._ask(job) for job in work._fork(jobs[:2], draws)]
    seeds = [asked.params.seed for asked in (whole, *forks)]
    assert len(set(seeds)) == 3 and None not in seeds
    vllm_request.forget(engine._traces)


def test_a_request_that_the_engine_refuses_fails_alone(engine):
    tokenizer = engine.lm.tokenizer
    context = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1"}], tokenize=False, add_generation_prompt=True
    )
    job = job_of(request(context, "1+1", {"max_gen_toks": 300}), TextEncoder(tokenizer), 1024)
    (longest,) = Work([job], engine.encoder, engine.ends_with_newline).begin()
    asked = engine._ask(longest)
    record = vllm_request.recorder(asked.trace)
    record(None, "no such thing")
    assert engine._take(asked, SimpleNamespace(token_ids=[], finish_reason="stop"))
    assert longest.response.ended == "failed" and "no such thing" in longest.response.error


def test_engines_in_parallel_share_the_questions_and_the_journal(small, tmp_path):
    """lm-eval's own class with `data_parallel_size`; Ray is told of two GPUs that are not there."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install ray")
    from lm_eval.models.vllm_causallms import VLLM

    from s1_plugin.evaluation.budgets import expand
    from s1_plugin.evaluation.journal import Journal

    budgets = {"max_tokens_thinking": [4, 30], "thinking_n_ignore": [2], "max_gen_toks": 200}
    found, files = {}, {}
    for engines in (1, 2, 2):
        lm = VLLM(
            str(small[0]),
            dtype="float32",
            max_model_len=1024,
            max_num_seqs=16,
            batch_size="auto",
            data_parallel_size=engines,
            logits_processors=[vllm_request.PROCESSOR],
        )
        requests = []
        for question in ("1+1", "2+2", "3+3"):
            context = lm.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            requests += [request(context, question, how) for how in expand(budgets)]
        if engines > 1:
            ray.init(num_cpus=2, num_gpus=engines, include_dashboard=False)
        got = driver.run(lm, requests, Journal(tmp_path / str(engines)))
        assert found.setdefault(engines, got) == got
        written = sorted((tmp_path / str(engines)).iterdir())
        assert files.setdefault(engines, written) == written  # the third run has written nothing
    assert found[1] == found[2] and len(files[2]) == 2
