"""What sampling must look like: exact laws, written apart from the package, and a chi-square test.

The world has 64 token ids; 0, 1 and 2 end the thinking, and a Wait is the token 7.
"""

import itertools
import math

import torch

SIZE, SPARE, ENDS, WAIT = 64, 4, (0, 1, 2), 7
DRAWS = 20_000

#: temperature, top-p, top-k, min-p
SETTINGS = [
    {"temperature": t, **dict(kept)}
    for t in (0.7, 1.0)
    for n in range(4)
    for kept in itertools.combinations((("top_p", 0.9), ("top_k", 20), ("min_p", 0.05)), n)
]


def name(setting):
    return "-".join(f"{key}{value}" for key, value in setting.items())


def fixed_logits(seed=0):
    """(SIZE + SPARE,) logits; one end is likely, one in the tail, the spare ids tempting."""
    logits = torch.randn(SIZE + SPARE, generator=torch.Generator().manual_seed(seed)) * 1.5
    logits[0] = logits[:SIZE].max() - 0.4
    logits[1] = logits[:SIZE].median()
    logits[SIZE:] = 5.0
    return logits


def law(logits, order, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, banned=()):
    """Probabilities of the ids, the warpers applied in ``order``, with plain loops."""
    weights = {
        i: math.exp(float(x) / temperature) for i, x in enumerate(logits[:SIZE]) if i not in banned
    }
    for warper in order:
        ranked = sorted(weights, key=weights.get, reverse=True)
        total = sum(weights.values())
        if warper == "top_k" and top_k:
            ranked = ranked[:top_k]
        elif warper == "min_p":
            ranked = [i for i in ranked if weights[i] >= min_p * weights[ranked[0]]]
        elif warper == "top_p" and top_p < 1:
            kept, mass = [], 0.0
            for i in ranked:
                if mass >= top_p * total:
                    break
                kept.append(i)
                mass += weights[i]
            ranked = kept
        weights = {i: weights[i] for i in ranked}
    total = sum(weights.values())
    return {i: w / total for i, w in weights.items()}


def with_wait(probabilities):
    """The law after "sample; if the sample is an end token, put Wait in its place"."""
    out = dict(probabilities)
    ending = sum(out.pop(end, 0.0) for end in ENDS)
    out[WAIT] = out.get(WAIT, 0.0) + ending
    return out


def p_value(drawn, expected):
    """Chi-square test that ``drawn`` ids follow ``expected``; ids expected fewer than 5 times are
    put together. An id that cannot come gives 0."""
    count = dict.fromkeys(expected, 0)
    for token in drawn:
        if token not in count:
            return 0.0
        count[token] += 1
    cells, rest_seen, rest_wanted = [], 0, 0.0
    for i, probability in expected.items():
        wanted = probability * len(drawn)
        if wanted >= 5:
            cells.append((count[i], wanted))
        else:
            rest_seen, rest_wanted = rest_seen + count[i], rest_wanted + wanted
    if rest_wanted >= 5:
        cells.append((rest_seen, rest_wanted))
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1])) if len(cells) > 1 else 1.0
