import bisect
import itertools
import math

import pytest
import torch

from s1_plugin.forcing.draw import draw, uniform


def naive(scores, number):
    """The first token at which the running sum of exact weights exceeds the number."""
    best = max(scores)
    weights = [math.exp(x - best) for x in scores]
    sums = list(itertools.accumulate(weights))
    return bisect.bisect_right(sums, number * sums[-1])


@pytest.mark.parametrize("size", [1, 3, 511, 512, 513, 1600])
def test_a_number_finds_its_token(size):
    """Over one block of the sum and several, most tokens cut."""
    generator = torch.Generator().manual_seed(size)
    scores = torch.randn(200, size, generator=generator) * 4
    scores[torch.rand(200, size, generator=generator) < 0.8] = -torch.inf
    scores[:, size // 2] = 0.0
    numbers = torch.rand(200, generator=generator, dtype=torch.float64).tolist()
    numbers[:2] = [0.0, 1 - 2**-53]
    got = draw(scores, numbers)
    assert all(scores[i, token] > -torch.inf for i, token in enumerate(got))
    want = [naive(row, n) for row, n in zip(scores.tolist(), numbers, strict=True)]
    # float32 weights differ by rounding, so a number may fall on the other side of a limit
    assert sum(a != b for a, b in zip(got[2:], want[2:], strict=True)) <= 1


def test_a_token_of_no_weight_is_never_drawn():
    scores = torch.full((4, 2000), -torch.inf)
    scores[:, [700, 1300]] = torch.tensor([0.0, -200.0])  # exp(-200) is 0 in float32
    assert draw(scores, [0.0, 0.3, 0.999999, 1 - 2**-53]) == [700] * 4


def test_uniform_numbers_are_of_their_arguments_alone():
    numbers = [uniform(1, "a", i) for i in range(2000)]
    assert numbers == [uniform(1, "a", i) for i in range(2000)]
    assert all(0 <= n < 1 for n in numbers)
    assert abs(sum(numbers) / 2000 - 0.5) < 0.02
    others = uniform(2, "a", 0), uniform(1, "b", 0), uniform(1, "a", 1), uniform(1, "a", 0, 1)
    assert len({numbers[0], *others}) == 5
