"""The authors' own runs, on which the constant is fitted and against which it is checked.

https://arxiv.org/abs/2501.19393 (v3): sections 4.1 and 5.1, tables 5 to 7, appendices C and D;
https://github.com/simplescaling/s1, train/sft_multinode.sh.
"""

from __future__ import annotations

from s1_plugin.plan.lengths import lognormal, spread
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.shapes import KNOWN

SHAPE = KNOWN["Qwen2.5-32B"]
#: Appendix D: "26 minutes on 16 NVIDIA H100 GPUs", 5 epochs in 315 steps of 16.
MINUTES, STEPS = 26.0, 315
#: Section 5.1.
HOURS_59K = 394.0

#: FSDP with everything sharded over 16 GPUs, one row on each, float32 weights, checkpoints of whole
#: layers (reentrant, the default of transformers in 2024), full logits, no fused kernels.
RECIPE = Recipe(gpus=16, shards=(16, 16, 16), recompute="whole", flat=True, epochs=5)

#: s1K: 1,000 rows, 4.7 M tokens (table 5); 74 % of rows are cut at 4,096 (table 7).
DATA = "simplescaling/s1K"
ROWS, MEAN, LIMIT, OVER = 1000, 4700.0, 4096, 0.74

#: Table 6: rows and mean thinking tokens of the sources of the 59K.
SOURCES = (
    (30660, 4100),
    (11999, 2900),
    (4250, 3200),
    (4238, 4400),
    (2385, 1200),
    (999, 700),
    (896, 3900),
    (890, 4700),
    (747, 2100),
    (519, 3600),
    (515, 2900),
    (348, 2900),
    (227, 700),
    (182, 4000),
    (151, 3500),
    (23, 4100),
)


def s1k() -> list[int]:
    """The lengths of s1K: a lognormal with its mean and its share over 4,096. A fit, not the data:
    it is the narrowest that has both, so it makes GPUs wait least for the longest row."""
    return lognormal(MEAN, spread(MEAN, LIMIT, OVER), ROWS)


def s59k() -> list[int]:
    """The lengths of all 59K rows: for each source a lognormal with its mean, as wide as s1K's."""
    sigma = spread(MEAN, LIMIT, OVER)
    return [n for rows, mean in SOURCES for n in lognormal(float(mean), sigma, rows)]
