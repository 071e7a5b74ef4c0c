"""Running forced requests in a vLLM engine."""

from __future__ import annotations

from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.budget import plan
from s1_plugin.formats import S1

#: Engines of one process share vLLM's globals, which the first one to be collected takes along.
_ALIVE = []


def start(folder, processor=vllm_request.PROCESSOR, **kwargs):
    from vllm import LLM

    settings = {
        "dtype": "float32",
        "max_num_seqs": 16,
        "max_model_len": 512,
        "max_num_batched_tokens": 64,
        "enable_prefix_caching": False,
        **({"logits_processors": [processor]} if processor else {}),
        **kwargs,
    }
    _ALIVE.append(LLM(str(folder), **settings))
    return _ALIVE[-1]


def prompts_of(encoder, questions):
    begin = encoder.scaffold_ids(S1.think_start)
    return [encoder.encode(encoder.prompt_pieces(q, S1)) + begin for q in questions]


def forced(llm, tokenizer, prompts, budgets, max_new_tokens, **sampling):
    """One response per prompt, in one call of the engine."""
    from vllm import TokensPrompt

    encoder, newline = TextEncoder(tokenizer), newline_test(tokenizer)
    prefix = len(encoder.scaffold_ids(S1.think_start))
    plans = [
        plan(b, encoder, S1, prompt_length=len(p) - prefix, max_new_tokens=max_new_tokens)
        for p, b in zip(prompts, budgets, strict=True)
    ]
    traces = [vllm_request.new_trace() for _ in plans]
    outputs = llm.generate(
        [TokensPrompt(prompt_token_ids=p) for p in prompts],
        [
            vllm_request.sampling_params(b, p, trace=t, **sampling)
            for b, p, t in zip(budgets, plans, traces, strict=True)
        ],
        use_tqdm=False,
    )
    return [
        vllm_request.response(
            out.outputs[0].token_ids,
            out.outputs[0].finish_reason,
            p,
            vllm_request.read_trace(t),
            encoder,
            newline,
            S1.think_start,
        )[0]
        for out, p, t in zip(outputs, plans, traces, strict=True)
    ]
