"""Strings that hang, crash or fool graders, from a fixed seed."""

from __future__ import annotations

import random

_ATOMS = [
    "1",
    "x",
    "7",
    "\\pi",
    "\\sqrt",
    "\\frac",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "^",
    "_",
    "**",
    "!",
]
_ATOMS += [
    "\\left(",
    "\\right",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    ",",
    "=",
    "<",
    "\\in",
]
_ATOMS += [
    "\\int",
    "\\sum",
    "\\lim",
    "\\log",
    "\\binom",
    "%",
    "$",
    "\\text{",
    "\\boxed{",
    "Answer:",
    "9",
]
_ATOMS += [
    "\\cup",
    "\\infty",
    "\\pm",
    "|",
    "i",
    "e",
    "\\cdot",
    "/",
    "-",
    "+",
    "0",
    "\x00",
    "é",
    "🂡",
    "\n",
]


def strings(count: int, seed: int = 0):
    """``count`` adversarial answers; every fiftieth is of about a megabyte."""
    rng = random.Random(seed)
    makers = [
        _power,
        _nested,
        _soup,
        _soup,
        _boxed_soup,
        _sum,
        _deep,
        _marks,
        _polynomial,
        _unicode,
    ]
    for number in range(count):
        yield _long(rng) if number % 50 == 49 else makers[number % len(makers)](rng)


def _wrapped(rng, text):
    return rng.choice(["\\boxed{%s}", "Answer: $%s$", "Answer: %s", "\\[%s\\]", "%s"]).replace(
        "%s", text
    )


def _power(rng):
    number = rng.choice(["9", "99", "2", "x", "1.5", "10"])
    sign = rng.choice(["**", "^"])
    tower = sign.join(
        rng.choice([number, "9", "{9}", "(9)", "{9^9}", "1e9"]) for _ in range(rng.randint(2, 6))
    )
    return _wrapped(
        rng,
        rng.choice(
            [
                tower,
                f"{number}^{{{tower}}}",
                f"{number}^{10 ** rng.randint(2, 12)}",
                "9!!!!",
                f"{10 ** rng.randint(1, 9)}!",
                "(9^{999})^{999}",
                f"\\binom{{{10**9}}}{{{10**6}}}",
                f"\\sqrt[{10**9}]{{2}}",
                f"\\log_{{2}}({tower})",
            ]
        ),
    )


def _nested(rng):
    n = rng.randint(1, 400)
    left, right = rng.choice(
        [
            ("{", "}"),
            ("\\frac{1}{", "}"),
            ("\\sqrt{", "}"),
            ("(", ")"),
            ("\\boxed{", "}"),
            ("\\left(", "\\right)"),
            ("x^{", "}"),
        ]
    )
    return _wrapped(
        rng, left * n + rng.choice(["1", "", "x"]) + right * rng.choice([n, n - 1, 0, n + 1])
    )


def _soup(rng):
    return "".join(rng.choice(_ATOMS) for _ in range(rng.randint(1, 120)))


def _boxed_soup(rng):
    return "\\boxed{" + _soup(rng) + rng.choice(["}", ""])


def _sum(rng):
    return _wrapped(
        rng,
        "+".join(
            f"\\frac{{{rng.randint(1, 10**6)}}}{{{rng.randint(1, 10**6)}}}"
            for _ in range(rng.randint(1, 60))
        ),
    )


def _deep(rng):
    n = rng.randint(1, 30)
    return _wrapped(rng, rng.choice(["\\sin", "\\log", "\\sqrt", "|", "-"]) * n + "{x}")


def _marks(rng):
    return (
        "Answer: " * rng.randint(1, 200)
        + _soup(rng)
        + "\nFinal Answer:"
        + rng.choice(["", " ", "\n\n", _soup(rng)])
    )


def _polynomial(rng):
    n = rng.randint(2, 40)
    factors = "".join(
        f"(x^{rng.randint(1, 9)}+{rng.choice('yzab')}^{{{rng.randint(1, 9)}}}+{rng.randint(1, 99)})"
        for _ in range(n)
    )
    return _wrapped(
        rng,
        rng.choice(
            [factors, f"({factors})^{{{rng.randint(2, 99)}}}", f"\\frac{{{factors}}}{{{factors}}}"]
        ),
    )


def _unicode(rng):
    return _wrapped(
        rng,
        "".join(
            chr(
                rng.choice(
                    [
                        rng.randint(0, 0x2FF),
                        rng.randint(0x2000, 0x2FFF),
                        0xD800 - 1,
                        rng.randint(0x1D400, 0x1D7FF),
                    ]
                )
            )
            for _ in range(rng.randint(1, 80))
        ),
    )


def _long(rng):
    unit = rng.choice(
        [
            "\\boxed{",
            "{",
            "}",
            "\\frac{1}{",
            "9",
            "9^",
            "Answer: ",
            "Answer:\n",
            "$",
            "\\(",
            "1,",
            "x+",
            " ",
            "A or ",
            "(A)",
            "**",
            "\\text{",
            "the answer is ",
            "\n",
            "-",
        ]
    )
    text = unit * (1_000_000 // len(unit))
    return rng.choice(
        [text, "\\boxed{" + text + "}", text + "}" * 1000, "\\boxed{5}" + text, text + "\\boxed{5}"]
    )
