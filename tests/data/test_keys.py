"""The cache of `s1 curate`: whatever an outcome depends on is in its key, and what is not, is not.

All of it runs once; then one thing is changed, and exactly the stages that it concerns run again.
"""

from __future__ import annotations

import ast
import json
import platform
import sys
from dataclasses import replace
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from s1_plugin.data import domains, stages
from s1_plugin.data.curate import Asked, curate
from s1_plugin.data.engine import Local

STAGES = [
    *("status", "complete", "form", "copies", "contamination"),
    *("difficulty", "length", "domain", "selection"),
]
WORDS = ["triangle", "circle", "prime", "integral", "matrix", "graph", "force", "atom"]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def add(path, row):
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Input, a student's answers, benchmarks, a tokenizer, and a copy of our tables."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = tmp_path_factory.mktemp("keys")
    questions = [f"What of {word} number {n}?" for n in range(4) for word in WORDS]
    jsonl(
        folder / "in.jsonl",
        [
            {
                "question": question,
                "answer": str(n),
                "thinking_trajectories": ["so " * (n + 1)],
                "attempt": f"Answer: {n}",
                "source_type": "gpqa" if n % 3 == 0 else "aops",
            }
            for n, question in enumerate(questions)
        ],
    )
    jsonl(
        folder / "student.jsonl",
        [
            {"question": question, "thinking_trajectories": ["t"], "attempt": str(n * (n % 8 == 0))}
            for n, question in enumerate(questions)
        ],
    )
    (folder / "eval").mkdir()
    for name, column in (("aime24", "problem"), ("aime25", "problem"), ("math500", "problem")):
        jsonl(folder / "eval" / f"{name}.jsonl", [{column: f"Of {name} and a triangle?"}])
    jsonl(folder / "eval" / "gpqa_diamond.jsonl", [{"Question": "Of an atom?"}])
    jsonl(folder / "against.jsonl", [{"question": "Of what else?"}])
    (folder / "tokenizer").mkdir()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "so": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "tables").mkdir()
    for name in ("domains.yaml", "patterns.yaml", "direct.yaml"):
        text = stages.files("s1_plugin.data").joinpath(name).read_text(encoding="utf-8")
        (folder / "tables" / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def ran(folder, monkeypatch):
    """Runs `s1 curate` after changes to what was asked; the names of the stages that ran."""
    monkeypatch.setenv("S1_EVAL_DATA", str(folder / "eval"))
    for module in (stages, domains):
        monkeypatch.setattr(module, "files", lambda _: folder / "tables")
    asked = Asked(
        (str(folder / "in.jsonl"),),
        rows=20,
        tokenizer=str(folder / "tokenizer"),
        students=(str(folder / "student.jsonl"),),
        patterns=folder / "tables" / "patterns.yaml",
        direct=folder / "tables" / "direct.yaml",
    )

    def run(**changes):
        steps = []
        domains.table.cache_clear()
        curate(replace(asked, **changes), folder / "cache", Local(), steps.append)
        assert [step.name for step in steps] == STAGES
        return [step.name for step in steps if not step.cached]

    run()
    assert run() == []
    yield run
    domains.table.cache_clear()


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        # Its questions' domains weigh the draws.
        ("eval/aime24.jsonl", {"problem": "Of a field?"}, ["contamination", "selection"]),
        ("eval/gpqa_diamond.jsonl", {"Question": "Of a force?"}, ["contamination", "selection"]),
        ("student.jsonl", {"question": "Of a leaf?", "attempt": "1"}, ["difficulty"]),
        ("tables/domains.yaml", None, ["domain"]),
        ("tokenizer/tokenizer.json", None, ["length"]),
        # A comment there changes no pattern and no rule.
        ("tables/patterns.yaml", None, []),
        ("tables/direct.yaml", None, []),
    ],
)
def test_a_changed_file(folder, ran, name, row, expected):
    path = folder / name
    if row is None:
        text = path.read_text(encoding="utf-8")
        path.write_text(f"\n{text}" if path.suffix == ".json" else f"# More.\n{text}")
    else:
        add(path, row)
    assert ran() == expected
    assert ran() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"patterns": "- {name: n, in: [question], pattern: never}"}, ["form"]),
        ({"direct": "- {source: gpqa, min_tokens: 12}"}, ["selection"]),
        ({"against": True}, ["contamination"]),
        ({"max_tokens": 1000}, ["length"]),
        ({"seed": 1}, ["selection"]),
        ({"rows": 19}, ["selection"]),
        # One row less comes to all that follows.
        (
            {"patterns": "- {name: n, in: [question], pattern: 'circle number 1'}"},
            STAGES[STAGES.index("form") :],
        ),
    ],
)
def test_a_changed_option(folder, tmp_path, ran, changes, expected):
    for option, value in changes.items():
        if option in ("patterns", "direct"):
            (tmp_path / "table.yaml").write_text(value)
            changes = {option: tmp_path / "table.yaml"}
        elif option == "against":
            changes = {option: (folder / "against.jsonl",)}
    assert ran(**changes) == expected
    assert ran(**changes) == ran() == []


def test_other_ways_to_select(ran):
    for mode in ("random", "longest", "diverse", "all"):
        assert ran(mode=mode) == ["selection"]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("math-verify", ["difficulty", "selection"]),
        ("sympy", ["difficulty", "selection"]),
        ("latex2sympy2_extended", ["difficulty", "selection"]),
        ("tokenizers", ["length"]),
        ("numpy", ["copies"]),
        ("PyYAML", ["domain"]),
        ("click", []),
    ],
)
def test_another_version_of_a_package(tmp_path, monkeypatch, ran, package, expected):
    found = tmp_path / f"{package.replace('-', '_')}-999.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Name: {package}\nVersion: 999\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ran() == expected


def test_another_python(monkeypatch, ran):
    monkeypatch.setattr(platform, "python_version", lambda: "4.0.0")
    assert ran() == STAGES


# Imported by modules of a stage, and of no influence on its outcome: what filters read is in the
# settings, the file that huggingface_hub fetches is, too, and of `duplicates` those stages use only
# the fingerprint, which is no work of numpy.
UNCONCERNED = {
    *(("form", "PyYAML"), ("status", "PyYAML"), ("complete", "PyYAML")),
    ("length", "huggingface_hub"),
    *(("difficulty", "numpy"), ("domain", "numpy"), ("selection", "numpy")),
}


@pytest.mark.parametrize(
    "stage",
    [
        *(stages.status(), stages.complete(), stages.form([]), stages.copies()),
        *(stages.contamination([]), stages.hard([]), stages.length(Path(__file__), None, None)),
        *(stages.domain(None), stages.selection("s1", 1, 0)),
    ],
    ids=lambda stage: stage.name,
)
def test_packages_that_a_stage_imports_are_in_its_key(stage):
    owners = packages_distributions()
    imported = {
        (stage.name, owner)
        for module in set(stage.code) - {stages.__name__}  # has the functions of all
        for name in imports(module)
        for owner in owners[name]
    }
    missing = imported - {(stage.name, package) for package in stage.packages}
    assert missing <= UNCONCERNED


def imports(module):
    """What the source of ``module`` imports of other people's, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    tops = {name.partition(".")[0] for name in found}
    return tops - sys.stdlib_module_names - {"s1_plugin"}
