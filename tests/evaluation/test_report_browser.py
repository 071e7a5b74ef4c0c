"""The page in a real browser: it draws, opens the trace in its address, and nothing fails."""

from __future__ import annotations

import html
import json
import re

import pytest

from s1_plugin.commands.curve import table
from s1_plugin.evaluation import report, samples
from s1_plugin.evaluation.curve import build, sort
from s1_plugin.evaluation.embed import traces
from tests.evaluation import fake_samples
from tests.evaluation.browser import (
    assert_nothing_missing_is_written,
    browse,
    framed,
    needs_chromium,
    text_of,
)

pytestmark = needs_chromium
BUDGETS = {"max_tokens_thinking": [32, 256, "auto"], "thinking_n_ignore": [1, 2]}
NASTY = "<b id=broken>x</b></script><script>document.title = 'broken'</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The runs in the order of their points, and the page."""
    folder = tmp_path_factory.mktemp("browser")
    fake_samples.write(
        folder / "in", BUDGETS, task="s1_aime24", questions=30, text="What is {n} squared? " + NASTY
    )
    fake_samples.write(folder / "in", BUDGETS, questions=4)
    runs = samples.read([folder / "in"])
    page = report.write(
        runs, folder, title=f"Made up {NASTY}", commands=["lm_eval --tasks s1_aime24"]
    )["html"]
    return sort([r for r in runs if r.task == "s1_aime24"]), page


def test_it_draws_and_opens_the_trace_in_its_address(made, tmp_path):
    runs, page = made
    run = next(i for i, r in enumerate(runs) if r.label == "auto+2xWait")
    dom = browse(page, tmp_path, "--dump-dom", address=f"#t=0&q=3&r={run}&s=0")

    # the chart: one button per run, with its numbers in words
    points = re.findall(r'<g role="button"[^>]*data-point="(\d+)"[^>]*aria-label="([^"]*)"', dom)
    first = [label for _, label in points][: len(runs)]
    for label, r in zip(first, runs, strict=True):
        assert label.startswith(f"{r.label}: {100 * r.accuracy:.1f} ± {100 * r.standard_error:.1f}")
    assert "s1-32B with budget forcing, arXiv 2501.19393, AIME24" in dom

    # the trace: whole, its Waits and the delimiter marked, nothing else
    answer = runs[run].answers[3]
    trace = r'<div class="trace"[^>]*>(.*?)</div>'
    assert text_of(dom, trace) == answer.text
    marked = re.findall(r'<mark class="(\w+)"[^>]*>([^<]*)</mark>', re.search(trace, dom, re.S)[1])
    assert [kind for kind, _ in marked] == ["start", "wait", "wait", "answer"]
    assert marked[1] == ("wait", "Wait")
    facts = text_of(dom, r'id="facts"[^>]*>(.*?)</p>')
    assert f"{answer.thinking_tokens} thinking tokens" in facts and "2 Waits" in facts
    assert f"right answer: {answer.question.target}" in html.unescape(re.sub(r"<[^>]+>", "", dom))

    # the strip: a cell for every question and run of the task
    cells = re.findall(r'<rect [^>]*data-q="\d+" data-r="\d+"', dom)
    assert len(cells) == sum(len(r.questions) for r in runs) + 4 * len(runs)

    assert_nothing_missing_is_written(dom)

    # what came from data is text
    assert "<b id=" not in dom and "<title>broken" not in dom
    assert "lm_eval --tasks s1_aime24" in dom


@pytest.mark.parametrize("questions", [16, 30, 80])
def test_the_page_shows_the_digits_of_the_terminal(tmp_path, questions):
    """Sixteenths and eightieths round half way; skill makes some runs all right or all wrong."""
    for name, skill in (("clever", 40), ("middling", 1), ("hopeless", 0.001)):
        model = f"made/{name}"
        fake_samples.write(tmp_path, BUDGETS, model=model, questions=questions, skill=skill)
    runs = samples.read([tmp_path])
    page = report.write(runs, tmp_path, title="Digits", commands=[])["html"]
    dom = browse(page, tmp_path / "p", "--dump-dom")
    rows = re.search(r"<h3>Runs</h3>.*?<tbody>(.*?)</tbody>", dom, re.S)[1]
    cells = [re.findall(r"<td>(.*?)</td>", row, re.S) for row in rows.split("</tr>")[:-1]]
    on_page = [(accuracy, interval.replace(" – ", " to ")) for _, accuracy, interval, *_ in cells]
    in_terminal = [tuple(re.split(r"  +", line.strip())[4:6]) for line in table(runs)[1:]]
    assert on_page == in_terminal
    assert {a for a, _ in on_page if "±" not in a} == {"0.0", "100.0"}


def test_a_capped_trace_shows_its_forced_end(made, tmp_path):
    runs, page = made
    dom = browse(page, tmp_path, "--dump-dom", address="#t=0&q=0&r=0&s=0")
    assert runs[0].label == "cap32"
    end = text_of(dom, r'<div class="trace".*?(<mark class="end"[^>]*>.*?</mark>)')
    assert end.lstrip("\n") == "<|im_start|>answer\nFinal Answer:"
    assert "thinking ended at its cap" in dom


def test_an_address_out_of_range_is_not_an_error(made, tmp_path):
    _, page = made
    assert '<div class="trace"' in browse(
        page, tmp_path, "--dump-dom", address="#t=0&q=999&r=-1&s=77&x=y"
    )


def test_a_bare_page_shows_the_recorded_command(made, tmp_path):
    runs, _ = made
    page = report.write(runs[:1], tmp_path, title="One run", commands=[])["html"]
    dom = browse(page, tmp_path / "p", "--dump-dom")
    assert_nothing_missing_is_written(dom)
    assert "lm_eval --model hf --model_args pretrained=made/up" in text_of(
        dom, r"<details open[^>]*>(.*?)</details>"
    )


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(made, tmp_path, width):
    _, page = made
    said = framed(page, tmp_path, width, "return f.documentElement.scrollWidth")
    assert 0 < int(said) <= width


@pytest.fixture(scope="module")
def motley(tmp_path_factory):
    """A page of runs that have a bit of everything."""
    folder = tmp_path_factory.mktemp("motley")
    fake_samples.write(folder, BUDGETS, questions=12)
    token = {"control": "token", "control_limit": [64, 256, 1024]}
    fake_samples.write(folder, token, questions=12, date="2026-01-03T00-00-00.0")
    path = fake_samples.write(folder, {"max_tokens_thinking": 64}, questions=12, model="judged")
    fake_samples.repeat(path, [[1, 0, 1, 1]] * 6 + [[0, 0, 0, 1]] * 6)
    logged = {"judged": 0.5, "judge_failed": 0.0, "unanswered": 0.25, "out_of_context": 0.75}
    fake_samples.edit(path, lambda row: row.update(logged))
    path = fake_samples.write(folder, {}, questions=12, model="chat")
    fake_samples.edit(path, fake_samples.unforce)
    return report.write(samples.read([folder]), folder, title="Motley", commands=[])["html"]


def table_of(dom, title):
    """The cells of the table under ``title``: its last row of heads, then each row by its name."""
    table = re.search(rf"<h3>{title}</h3>.*?<table[^>]*>(.*?)</table>", dom, re.S)[1]
    head, body = table.split("</thead>")
    heads = re.findall(r"<th [^>]*>([^<]*)</th>", html.unescape(head.split("<tr>")[-1]))
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in body.split("</tr>")[:-1]]
    rows = [[html.unescape(re.sub("<[^>]+>", "", cell)) for cell in row] for row in rows]
    return heads, {row[0]: row for row in rows}


def test_the_table_of_runs(motley, tmp_path):
    dom = browse(motley, tmp_path, "--dump-dom")
    assert_nothing_missing_is_written(dom)
    heads, rows = table_of(dom, "Runs")
    amounts = ["mean", "median", "p95", "max"]
    shares = ["forced", "capped", "out of context", "unanswered", "judged", "judge failed"]
    accuracy = ["± over questions", "± over repeats", "95\u00a0% interval"]
    assert heads == ["run", *accuracy, *amounts, *amounts, *shares, "Waits used", "n"]
    judged = dict(zip(heads[12:], rows["judged cap64"][12:], strict=True))
    assert judged == {
        **{"forced": "100 %", "capped": "100 %", "out of context": "75 %", "unanswered": "25 %"},
        **{"judged": "50 %", "judge failed": "0 %", "Waits used": "–", "n": "12 × 4"},
    }
    assert rows["judged cap64"][2] == "± 20.4"  # repeats: 50, 0, 50 and 100 % right
    assert rows["made/up cap32"][2] == "–" and rows["made/up cap32"][16:18] == ["–", "–"]
    assert rows["made/up cap32"][4:8] == ["32.0 ± 0.0", "32.0", "32.0", "32.0"]
    assert rows["made/up cap32"][8:12] == ["2.9 ± 0.2", "3.0", "4.0", "4.0"]
    assert rows["chat auto"][4:12] == ["–"] * 8
    assert rows["made/up auto+2xWait"][12:14] == ["100 %", "0 %"]
    labels = re.findall(r'<text class="label"[^>]*>([^<]*)</text>', dom)
    assert {"32", "256", "2×"} < set(labels)
    assert any(label.startswith("token") for label in labels)
    legend = text_of(dom, r'<ul class="legend">(.*?)</ul>')
    assert "made/up, control=token" in legend and "chat" not in legend
    _, methods = table_of(dom, "The paper's three metrics")
    assert methods["made/up, control=token"][1:3] == ["3", "33 %"]
    assert "Not in the chart and the three metrics: chat auto" in html.unescape(
        re.sub("<[^>]+>", "", dom)
    )


def test_only_the_tables_scroll_on_a_phone(motley, tmp_path):
    said = framed(
        motley,
        tmp_path,
        390,
        """
        const s = f.querySelector("table.runs").parentElement;
        const { overflowX } = f.defaultView.getComputedStyle(s);
        return [f.documentElement.scrollWidth, s.clientWidth, s.scrollWidth, overflowX].join(" ");
        """,
    )
    width, inside, table, overflow = said.split()
    assert int(width) <= 390 and int(inside) <= 390 < int(table) and overflow == "auto"


def test_without_counted_tokens_there_is_a_word_in_the_charts_place(tmp_path):
    path = fake_samples.write(tmp_path, {}, questions=4)
    fake_samples.edit(path, fake_samples.unforce)
    runs = samples.read([tmp_path])
    page = report.write(runs, tmp_path, title="Chat", commands=[])["html"]
    dom = browse(page, tmp_path / "p", "--dump-dom")
    assert_nothing_missing_is_written(dom)
    assert "there is nothing to draw" in text_of(dom, r"<figure>(.*?)</figure>")
    assert "nothing was forced, and no tokens were counted" in text_of(
        dom, r'id="facts"[^>]*>(.*?)</p>'
    )


def test_the_trace_that_is_opened_first_is_in_the_page(tmp_path):
    fake_samples.write(tmp_path, BUDGETS, questions=30)
    runs = samples.read([tmp_path])
    task = build(runs, title="", commands=[])["tasks"][0]
    plain = next(i for i, p in enumerate(task["points"]) if p["label"] == "auto")
    first = next(  # that a Wait solved
        q
        for q, question in enumerate(task["questions"])
        if question["scores"][plain] == 0 and max(question["scores"][plain + 1 :]) == 1
    )
    assert first > 0
    sizes = [len(json.dumps(entries)) for entries in traces(runs)[0]["s1_made_up"]]
    limit = sum(sizes[:first])
    page = report.write(runs, tmp_path, title="Cut", commands=[], limit=limit)["html"]
    dom = browse(page, tmp_path / "p", "--dump-dom")
    assert f"the traces of {first} of 30 questions" in dom
    assert '<div class="trace"' in dom


def test_points_cells_and_buttons_answer_to_clicks(made, tmp_path):
    runs, page = made
    said = framed(
        page,
        tmp_path,
        390,
        """
        const click = (what) => {
          const found = f.querySelector(what);
          if (!found) throw new Error("nothing is " + what);
          found.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        };
        const out = [];
        click('[data-point="2"]');
        out.push(f.querySelector("#detail-0").textContent);
        click('rect[data-q="5"][data-r="1"]');
        out.push(f.querySelector("#trace-0 .trace").textContent.length, f.location.hash);
        click('#trace-0 [aria-label="next question"]');
        out.push(f.querySelector("#trace-0 .problem").textContent, f.location.hash);
        click('#trace-0 .chips button:last-child');
        out.push(f.querySelector("#trace-0 .trace").textContent.length);
        return out.join(" | ");
        """,
    ).split(" | ")
    assert said[0].startswith(f"{runs[2].label}: {100 * runs[2].accuracy:.1f} ±")
    assert said[1:3] == [str(len(runs[1].answers[5].text)), "#t=0&q=5&r=1&s=0"]
    assert said[3].startswith("What is 6 squared?") and said[4] == "#t=0&q=6&r=1&s=0"
    assert said[5] == str(len(runs[-1].answers[6].text))


def test_screenshot(made, tmp_path):
    _, page = made
    shot = tmp_path / "shot.png"
    browse(page, tmp_path / "p", f"--screenshot={shot}", "--window-size=1200,1600")
    assert shot.stat().st_size > 20_000
