"""The transformers driver draws by the exact law, at every temperature, top-p, top-k and min-p."""

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.state import Thinking
from s1_plugin.forcing.transformers import ForcedDecoding, _Draw, _Row
from tests.forcing.law import (
    DRAWS,
    ENDS,
    SETTINGS,
    SIZE,
    WAIT,
    fixed_logits,
    law,
    name,
    p_value,
    with_wait,
)

PLAN = Plan(
    cap=100,
    context_bound=False,
    waits=1,
    min_thinking=0,
    wait_ids=((WAIT,),),
    end_ids=frozenset(ENDS),
    natural_end=(2, 9),
    capped_end=(2, 9, 10),
    newline=(11,),
    stop_ids=frozenset({0, 1}),
    max_new_tokens=200,
)
#: transformers' own order.
ORDER = ("top_k", "top_p", "min_p")


def warpers(temperature, top_p=1.0, top_k=0, min_p=0.0):
    chain = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        chain.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        chain.append(TopPLogitsWarper(top_p))
    if min_p:
        chain.append(MinPLogitsWarper(min_p))
    return chain


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_the_draw_and_the_draw_after_a_wait(setting):
    run = ForcedDecoding([], [], ends_with_newline=lambda token: False, vocabulary=SIZE)
    run.rows = [_Row(Thinking(PLAN, lambda token: False), [], str(i)) for i in range(DRAWS)]
    draw = _Draw(run, warpers(**setting), True, [0])
    logits = fixed_logits()

    def step():
        out = draw(torch.zeros(DRAWS, 1, dtype=torch.long), logits.repeat(DRAWS, 1))
        return out.argmax(dim=-1).tolist()

    first, second = step(), step()
    exact = law(logits, ORDER, **setting)
    assert p_value(first, with_wait(exact)) > 0.001
    # After the Wait the ends are banned before the warpers.
    waited = [i for i, row in enumerate(run.rows) if row.state.waits and first[i] == WAIT]
    after = law(logits, ORDER, banned=ENDS, **setting)
    assert p_value([second[i] for i in waited if 0 in run.rows[i].state.draws[:1]], after) > 0.001
