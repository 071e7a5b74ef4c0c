"""The page as a file: self-contained, safe against what is in the traces, and complete."""

from __future__ import annotations

import html.parser
import json
import re

import pytest
from matplotlib.figure import Figure

from s1_plugin.evaluation import plot, report, samples
from s1_plugin.evaluation.curve import build, sort
from s1_plugin.evaluation.embed import marks, script_json, shared, traces
from s1_plugin.forcing.budget import Budget
from s1_plugin.forcing.response import forced_runs
from tests.evaluation import fake_samples

BUDGETS = {"max_tokens_thinking": [32, "auto"], "thinking_n_ignore": [2]}
NASTY = "</script><script>alert(1)</script><!-- <script> {{data}} {{style}} & \u2028 \U0001f600 ]]>"


@pytest.fixture
def runs(tmp_path):
    fake_samples.write(tmp_path / "in", BUDGETS, questions=6, text=NASTY + " {n}")
    return samples.read([tmp_path / "in"])


class Page(html.parser.HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.scripts, self.open = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open == "script":
            self.scripts[-1] += data


def test_three_files(runs, tmp_path):
    paths = report.write(runs, tmp_path / "out", title="T", commands=["make it"], notes=["a note"])
    assert {k: p.name for k, p in paths.items()} == {
        kind: f"curve.{kind}" for kind in ("json", "png", "html")
    }
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    curve = json.loads(paths["json"].read_text())
    assert curve["notes"] == ["a note"] and curve["commands"] == ["make it"]


def test_the_page_is_self_contained_and_nothing_breaks_out(runs, tmp_path):
    title = "<img src=x onerror=alert(1)> {{data}}"
    text = report.write(runs, tmp_path, title=title, commands=[NASTY])["html"].read_text()
    page = Page(text)
    assert page.links == []
    assert "img" not in page.tags and len(page.scripts) == 2
    data = json.loads(page.scripts[0])
    assert data["title"] == title and data["commands"] == [NASTY]
    assert data["tasks"][0]["questions"][0]["text"] == NASTY + " 0"
    assert "\u2028" not in text and "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "{{script}}" not in text and "default-src 'none'" in text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_without_counted_tokens_the_figure_says_so(tmp_path, monkeypatch):
    path = fake_samples.write(tmp_path, {}, questions=2)
    fake_samples.edit(path, fake_samples.unforce)
    curve = build(samples.read([tmp_path]), title="T", commands=[])
    said = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: said.extend(self.axes[0].texts))
    plot.draw(curve, tmp_path / "x.png")
    assert [text.get_text() for text in said] == [plot.NOTHING]


def test_the_figure_draws_control_methods_apart(tmp_path, monkeypatch):
    fake_samples.write(tmp_path, BUDGETS, questions=6)
    token = {"control": "token", "control_limit": [64, 256]}
    fake_samples.write(tmp_path, token, questions=6, date="2026-02-01T00-00-00.0")
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: figures.append(self))
    plot.draw(build(samples.read([tmp_path]), title="T", commands=[]), tmp_path / "x.png")
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "thinking capped",
        "“Wait” in the place of the end",
        "control=token",
    ]
    assert {text.get_text() for text in axes.texts} >= {"32", "auto", "2×", "token256, token64"}


def test_script_json_round_trips():
    data = {"a": NASTY, "b": ["\ud800", "é", "\x00", "\\u003c"], "c": None}
    text = script_json(data)
    assert text.isascii() and "<" not in text and ">" not in text
    assert json.loads(text) == data
    with pytest.raises(ValueError):
        script_json({"x": float("nan")})


def utf16(text, start, end):
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


def restored(entries, i):
    """What the page's `traceText` gives."""
    entry = entries[i]
    head = restored(entries, entry["base"]) if entry["keep"] else ""
    return utf16(head, 0, entry["keep"]) + entry["rest"]


def test_traces_come_back_whole_and_share_their_beginnings(runs):
    embedded, left_out = traces(runs)
    assert left_out == []
    ordered = sort(runs)
    whole = 0
    for q, entries in enumerate(embedded["s1_made_up"]):
        assert [e["point"] for e in entries] == [0, 1, 2]
        for i, entry in enumerate(entries):
            answer = ordered[entry["point"]].answers[q]
            assert restored(entries, i) == answer.text
            whole += len(answer.text)
    stored = sum(len(e["rest"]) for entries in embedded["s1_made_up"] for e in entries)
    assert stored < 0.7 * whole


def test_what_does_not_fit_is_said(runs, tmp_path):
    embedded, left_out = traces(runs, limit=20_000)
    kept = len(embedded["s1_made_up"])
    assert 0 < kept < 6
    assert f"the traces of {kept} of 6 questions" in left_out[0]
    paths = report.write(runs, tmp_path, title="", commands=[], limit=20_000)
    assert left_out[0] in json.loads(Page(paths["html"].read_text()).scripts[0])["notes"]


@pytest.mark.parametrize("budget", [Budget(cap=40), Budget(waits=2), Budget(cap=500, waits=3)])
def test_marks_cover_exactly_what_was_forced(budget, tmp_path):
    kwargs = {"max_tokens_thinking": budget.cap, "thinking_n_ignore": budget.waits}
    fake_samples.write(tmp_path, kwargs, questions=8)
    for answer in samples.read([tmp_path])[0].answers:
        found = [(kind, answer.text[a:b]) for kind, a, b in marks(answer)]
        assert found[0] == ("start", "<|im_start|>think")
        assert [f for f in found if f[0] == "wait"] == [("wait", "Wait")] * answer.waits
        kind, text = found[-1]
        if answer.ended == "natural":
            assert (kind, text) == ("answer", "<|im_start|>answer")
        else:
            assert kind == "end" and text.lstrip("\n") == "<|im_start|>answer\nFinal Answer:"


def test_marks_count_utf16_units(runs):
    from dataclasses import replace

    answer = runs[0].answers[0]
    shifted = replace(
        answer,
        text="\U0001f600é" + answer.text,
        forced_spans=[[a + 2, b + 2] for a, b in answer.forced_spans],
    )
    (kind, start, end) = marks(shifted)[-1]
    assert kind == "end" and utf16(shifted.text, start, end).endswith("Final Answer:")


def test_samples_without_spans_are_shown_unmarked(runs):
    from dataclasses import replace

    old = [replace(runs[0], answers=[replace(a, forced_spans=None) for a in runs[0].answers])]
    entry = traces(old)[0]["s1_made_up"][0][0]
    assert not entry["located"] and [m[0] for m in entry["marks"]] == ["start"]


def test_forced_stretches_are_cut_where_thinking_ends():
    assert forced_runs([3, 4, 9, 10, 11], 10) == [(3, 5), (9, 10), (10, 12)]
    assert forced_runs([], 5) == []


def test_spans_are_left_out_if_pieces_decode_differently():
    from s1_plugin.forcing.response import _spans

    def lossy(ids):  # two tokens that make one character together
        return bytes(ids).decode("utf-8", errors="replace")

    tokens = [*"é".encode(), 65]
    assert _spans(tokens, [(2, 3)], lossy(tokens), lossy, 0) == [[1, 2]]
    assert _spans(tokens, [(1, 2)], lossy(tokens), lossy, 0) == []


@pytest.mark.parametrize(
    "a, b, n",
    [("", "x", 0), ("abc", "abc", 3), ("abcd", "abx", 2), ("x", "y", 0), ("ab", "abc", 2)],
)
def test_shared_beginning(a, b, n):
    assert shared(a, b) == shared(b, a) == n


def test_the_page_takes_several_tasks_and_repeats(tmp_path):
    fake_samples.write(tmp_path / "in", BUDGETS, questions=3)
    fake_samples.write(tmp_path / "in", BUDGETS, questions=3, task="s1_math500")
    runs = samples.read([tmp_path / "in"])
    paths = report.write(runs, tmp_path / "out", title="", commands=[])
    data = json.loads(Page(paths["html"].read_text()).scripts[0])
    assert {t["task"] for t in data["tasks"]} == {"s1_made_up", "s1_math500"} == set(data["traces"])
    assert data["tasks"] == build(runs, title="", commands=[])["tasks"]
