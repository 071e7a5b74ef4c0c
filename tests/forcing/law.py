"""What sampling must look like: exact laws, written apart from the package, and a chi-square test.

The world has 64 token ids; 0, 1 and 2 end the thinking, and a Wait is the token 7.
"""

import inspect
import itertools
import math
import re

import torch

from s1_plugin.forcing.budget import Plan

SIZE, SPARE, ENDS, WAIT = 64, 4, (0, 1, 2), 7
DRAWS = 20_000

#: temperature, top-p, top-k, min-p
SETTINGS = [
    {"temperature": t, **dict(kept)}
    for t in (0.7, 1.0)
    for n in range(4)
    for kept in itertools.combinations((("top_p", 0.9), ("top_k", 20), ("min_p", 0.05)), n)
]

#: Every warper of transformers, by the setting of ``generate`` that asks for it.
WARPER_SETTINGS = [
    ({"temperature": 0.7}, "TemperatureLogitsWarper"),
    ({"top_h": 0.6}, "TopHLogitsWarper"),
    ({"top_k": 20}, "TopKLogitsWarper"),
    ({"top_p": 0.9}, "TopPLogitsWarper"),
    ({"min_p": 0.05}, "MinPLogitsWarper"),
    ({"typical_p": 0.8}, "TypicalLogitsWarper"),
    ({"epsilon_cutoff": 0.01}, "EpsilonLogitsWarper"),
    ({"eta_cutoff": 0.3}, "EtaLogitsWarper"),
]


def warpers_of_generate():
    """Names of the warpers that ``generate`` of the installed transformers can put in."""
    from transformers import GenerationMixin

    source = inspect.getsource(GenerationMixin._get_logits_processor)
    return {*re.findall(r"(\w+Warper)\(", source)}


def make_plan(cap=100, waits=1, wait_ids=((WAIT,),)):
    """A budget in this world."""
    return Plan(
        cap=cap,
        context_bound=False,
        waits=waits,
        min_thinking=0,
        wait_ids=wait_ids,
        end_ids=frozenset(ENDS),
        natural_end=(2, 9),
        capped_end=(2, 9, 10),
        newline=(11,),
        stop_ids=frozenset({0, 1}),
        max_new_tokens=200,
    )


def name(setting):
    return "-".join(f"{key}{value}" for key, value in setting.items())


def fixed_logits(seed=0):
    """(SIZE + SPARE,) logits; one end is likely, one in the tail, the spare ids tempting."""
    logits = torch.randn(SIZE + SPARE, generator=torch.Generator().manual_seed(seed)) * 1.5
    logits[0] = logits[:SIZE].max() - 0.4
    logits[1] = logits[:SIZE].median()
    logits[SIZE:] = 5.0
    return logits


def law(logits, order, temperature=1.0, banned=(), **cuts):
    """Probabilities of the ids, the warpers in ``cuts`` applied in ``order``, with plain loops."""
    weights = {
        i: math.exp(float(x) / temperature) for i, x in enumerate(logits[:SIZE]) if i not in banned
    }
    for warper in order:
        if cuts.get(warper):
            total = sum(weights.values())
            likely = {i: weights[i] / total for i in sorted(weights, key=weights.get, reverse=True)}
            weights = {i: weights[i] for i in KEPT[warper](likely, cuts[warper])}
    total = sum(weights.values())
    return {i: w / total for i, w in weights.items()}


def _until(ids, share, limit):
    """``ids`` as long as those before add up to less than ``limit``."""
    kept, mass = [], 0.0
    for i in ids:
        if mass >= limit:
            break
        kept.append(i)
        mass += share[i]
    return kept


def _entropy(p):
    return -sum(x * math.log(x) for x in p.values())


def _typical(p, mass):
    h = _entropy(p)
    return _until(sorted(p, key=lambda i: abs(-math.log(p[i]) - h)), p, mass)


def _top_h(p, share):
    """The likeliest, then those whose entropy with all before is within the share."""
    kept, sum_ = [next(iter(p))], 0.0
    for i, x in p.items():
        sum_ -= x * math.log(x)
        if sum_ > share * _entropy(p):
            break
        kept.append(i)
    return dict.fromkeys(kept)


#: The ids each warper keeps of probabilities that are sorted, greatest first.
KEPT = {
    "top_k": lambda p, k: list(p)[:k],
    "top_p": lambda p, mass: _until(p, p, mass),
    "min_p": lambda p, share: [i for i in p if p[i] >= share * max(p.values())],
    "typical_p": _typical,
    "top_h": _top_h,
    "epsilon_cutoff": lambda p, e: [i for i in p if p[i] >= e],
    "eta_cutoff": lambda p, e: [
        i for i in p if p[i] >= min(e, math.sqrt(e) * math.exp(-_entropy(p)))
    ],
}


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
