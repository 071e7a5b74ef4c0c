from __future__ import annotations

import ast
import inspect
from importlib.util import find_spec
from pathlib import Path

import pytest

from s1_plugin.data import stages

# In every key without being named: the pipeline's own source; what rows say (their digest; the
# readers' source is in the key of the rows); where work runs changes no outcome.
ALWAYS = {f"s1_plugin.data.{name}" for name in ("pipeline", "rows", "engine")}
ALWAYS |= {"s1_plugin.console"}


def imported(module):
    """Modules of s1_plugin that the source of ``module`` imports, at its top or in a function."""
    spec = find_spec(module)
    found = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.startswith("s1_plugin.") and is_file(name)}
    return found


def is_file(name):
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # a name in a module
        return False
    return bool(spec and spec.origin and not spec.origin.endswith("__init__.py"))


def used(function):
    """Modules of s1_plugin whose names a function of stages.py uses, in functions it calls, too."""
    function = getattr(function, "func", function)  # of a partial
    if function.__module__ != stages.__name__:
        return {function.__module__}
    found, todo, seen = set(), [function], set()
    while todo:
        code = todo.pop().__code__
        for name in code.co_names:
            value = getattr(stages, name, None)
            if inspect.isfunction(value) and value.__module__ == stages.__name__:
                if name not in seen:
                    seen.add(name)
                    todo.append(value)
            elif inspect.ismodule(value) or inspect.isclass(value) or inspect.isfunction(value):
                found.add(value.__name__ if inspect.ismodule(value) else value.__module__)
    return {name for name in found if name.startswith("s1_plugin.")}


@pytest.mark.parametrize(
    "stage",
    [
        stages.status(),
        stages.complete(),
        stages.form([]),
        stages.samples(),
        stages.copies(),
        stages.contamination([]),
        stages.hard([]),
        stages.length(Path(__file__), None, None),
        stages.length(None, "n", None),
        stages.domain(None),
        stages.domain("d"),
        stages.selection("s1", 1, 0),
        stages.selection("random", 1, 0),
    ],
    ids=lambda stage: stage.name,
)
def test_all_source_that_an_outcome_depends_on_is_in_its_key(stage):
    own = set(stage.code)
    assert stages.__name__ in own
    for function in filter(None, (stage.measure, stage.decide)):
        missing = used(function) - own - ALWAYS
        assert not missing, f"{stage.name} uses {missing}"
    # stages.py imports the modules of all stages; each stage names its own, which is seen above.
    for module in sorted(own - {stages.__name__}):
        missing = imported(module) - own - ALWAYS
        assert not missing, f"{stage.name}: {module} imports {missing}"


def test_imports_are_found():
    maths = imported("s1_plugin.evaluation.maths")  # in a function, too
    assert {"s1_plugin.evaluation.answers", "s1_plugin.evaluation.verifier"} <= maths
    assert imported("s1_plugin.evaluation.grading") >= {"s1_plugin.evaluation.integers"}


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("simplescaling/openaimath/Precalculus", True),
        ("qfq/openaimath/Algebra", True),
        ("EleutherAI/hendrycks_math", True),
        ("lighteval/MATH", True),
        ("lighteval/MATH/algebra", True),
        ("DigitalLearningGmbH/MATH-lighteval", True),
        ("MATH", True),
        ("GAIR/OlympicArena/Math", False),
        ("Hothan/OlympiadBench/Open-ended/Math", False),
        ("daman1209arora/jeebench/math", False),
        ("KbsdJames/Omni-MATH", False),
        ("baber/agieval/math_agieval", False),
        ("AI-MO/NuminaMath-CoT/aops_forum", False),
        ("AI-MO/NuminaMath-CoT/synthetic_math", False),
        ("TIGER-Lab/TheoremQA/float", False),
        ("Idavidrein/gpqa", "short too"),
        ("qq8933/AIME_1983_2024", "short too"),
        ("AI-MO/aimo-validation-aime", "short too"),
        ("", False),
    ],
)
def test_direct_picks_by_source(source, taken):
    batch = {
        "source_type": [source, source],
        "trace_tokens": [5601, 5600],
        "other": ['{"correct": true}'] * 2,
        **{name: ["", ""] for name in ("attempt", "answer", "solution")},
    }
    picks = stages.selection("s1", 1, 0, rules=stages.direct_rules(None)).measure(batch)["direct"]
    assert picks == [bool(taken), taken == "short too"]


def test_uses_are_found():
    hard = stages.hard([])
    assert used(hard.measure) == {"s1_plugin.data.difficulty"}
    by_s1 = stages.selection("s1", 1, 0)
    assert "s1_plugin.data.difficulty" in used(by_s1.measure)  # by way of _right
    assert "s1_plugin.data.select" in used(by_s1.decide)
