"""The transformers driver draws by the exact law, under every warper that transformers has."""

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin

from s1_plugin.forcing.state import Thinking
from s1_plugin.forcing.transformers import ForcedDecoding, Row, _Draw
from tests.forcing.law import (
    DRAWS,
    ENDS,
    KEPT,
    SETTINGS,
    SIZE,
    WARPER_SETTINGS,
    fixed_logits,
    law,
    make_plan,
    name,
    p_value,
    with_wait,
)

PLAN = make_plan()
#: transformers' own order (after the temperature).
ORDER = ("top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
OTHERS = [s for s, _ in WARPER_SETTINGS if next(iter(s)) in set(ORDER[:1] + ORDER[4:])] + [
    {"temperature": 1.5, "top_h": 0.9, "eta_cutoff": 0.3, "typical_p": 0.9}
]


def warpers(setting):
    """What ``generate`` would put in."""
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **setting})
    model = GenerationMixin()
    model.config = None
    return model._get_logits_processor(config, device="cpu")


def test_each_warper_has_a_law():
    assert set(ORDER) == set(KEPT)
    assert {next(iter(s)) for s, _ in WARPER_SETTINGS} == {"temperature", *ORDER}


@pytest.mark.parametrize("setting", SETTINGS + OTHERS, ids=name)
def test_the_draw_and_the_draw_after_a_wait(setting):
    run = ForcedDecoding([], [], ends_with_newline=lambda token: False, vocabulary=SIZE)
    run.rows = [Row(Thinking(PLAN, lambda token: False), [], str(i)) for i in range(DRAWS)]
    draw = _Draw(run, warpers(setting), True)
    logits = fixed_logits()

    def step():
        out = draw(torch.zeros(DRAWS, 1, dtype=torch.long), logits.repeat(DRAWS, 1))
        return out.argmax(dim=-1).tolist()

    first, second = step(), step()
    exact = law(logits, ORDER, **setting)
    assert exact[0] > 0.01
    assert p_value(first, with_wait(exact)) > 0.001
    # Right after a Wait the ends are banned, before the warpers.
    waited = [i for i, row in enumerate(run.rows) if row.state.draws[0] in ENDS]
    assert len(waited) > 0.9 * DRAWS * exact[0]
    after = law(logits, ORDER, banned=ENDS, **setting)
    assert p_value([second[i] for i in waited], after) > 0.001
