"""The plain multi-round procedure of budget forcing, as a test oracle.

Rounds of greedy completions, each from scratch on the whole text so far: think up to the budget
that is left, look at how it stopped, append, go on. Written from the paper's description
(https://arxiv.org/abs/2501.19393, section 3.1, with one budget over all rounds), in the most
obvious way, sharing nothing with the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class Outcome:
    tokens: list[int]
    thinking_tokens: int
    waits: int
    ended: str
    finished: str


def greedy(model, ids, limit, stops, ban_first=(), vocabulary=None):
    """Up to ``limit`` greedy tokens after ``ids``; the stop token that ended it, or None."""
    out, past = [], None
    step = torch.tensor([ids])
    while len(out) < limit:
        with torch.inference_mode():
            seen = len(ids) + len(out) - step.shape[1]
            positions = torch.arange(seen, seen + step.shape[1]).unsqueeze(0)
            result = model(
                input_ids=step,
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
        past, logits = result.past_key_values, result.logits[0, -1].float().clone()
        if vocabulary is not None:
            logits[vocabulary:] = -torch.inf
        if not out and ban_first:
            logits[list(ban_first)] = -torch.inf
        token = int(logits.argmax())
        if token in stops:
            return out, token
        out.append(token)
        step = torch.tensor([[token]])
    return out, None


def multi_round(
    model, tokenizer, prompt, *, cap, waits, wait_text, max_new_tokens, vocabulary, wait_ids=None
):
    """``prompt`` ends with the thinking prefix; everything after it is returned."""
    one = tokenizer.convert_tokens_to_ids
    ends = {one("<|im_start|>"), one("<|im_end|>"), one("<|endoftext|>")} - {None}
    stops = {one("<|im_end|>"), one("<|endoftext|>")} - {None}
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    wait = encode(wait_text)
    thinking, used, ban = [], 0, ()
    while True:
        new, stop = greedy(model, prompt + thinking, cap - len(thinking), ends, ban, vocabulary)
        thinking += new
        if stop is None:
            ended = "cap"
            break
        if used == waits:
            ended = "natural"
            break
        if len(thinking) + len(wait) > cap:
            ended = "cap"
            break
        thinking += wait
        used += 1
        ban = tuple(ends)
        if len(thinking) >= cap:
            ended = "cap"
            break
    tokens = list(thinking)
    if ended == "natural":
        tokens += encode("<|im_start|>answer")
    else:
        if not tokenizer.decode(thinking[-1:]).endswith("\n"):
            tokens += encode("\n")
        tokens += encode("<|im_start|>answer\nFinal Answer:")
    answer, stop = greedy(
        model, prompt + tokens, max_new_tokens - len(tokens), stops, (), vocabulary
    )
    return Outcome(
        tokens + answer, len(thinking), used, ended, "length" if stop is None else "stop"
    )
