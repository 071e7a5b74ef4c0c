"""The page in a real browser: it draws, opens the trace in its address, and nothing fails."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from s1_plugin.commands.curve import table
from s1_plugin.evaluation import report, samples
from s1_plugin.evaluation.curve import sort
from tests.evaluation import fake_samples

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the PATH (apt-get install chromium)"
)

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


def browse(page: Path, profile: Path, *flags: str, address: str = "") -> str:
    """What headless Chromium prints; a fresh profile, and no traffic of its own."""
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *quiet,
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            *flags,
            page.as_uri() + address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # What the page writes to the console, errors and refused loads among it, is logged.
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    return done.stdout


def text_of(dom: str, pattern: str) -> str:
    found = re.search(pattern, dom, re.S)
    assert found, pattern
    return html.unescape(re.sub(r"<[^>]+>", "", found[1]))


def assert_nothing_missing_is_written(dom: str) -> None:
    shown = re.sub(r"<script.*?</script>|<style.*?</style>", "", dom, flags=re.S)
    words = re.sub(r"<[^>]+>", "\n", shown)
    assert not re.search(r"\b(null|undefined|NaN)\b|\[object", words)


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


def framed(page: Path, folder: Path, width: int, script: str) -> str:
    """What ``script`` returns with the page in a frame of ``width`` pixels as ``f``.

    A frame, because Chromium's windows are at least 500 pixels wide, and because a dump of the
    page alone cannot click.
    """
    outer = folder / "frame.html"
    outer.write_text(
        f"<iframe id=f src='{page.as_uri()}' style='width:{width}px;height:900px;border:0'>"
        "</iframe><p id=said></p><script>document.getElementById('f').onload = (e) => {"
        "const f = e.target.contentDocument, say = document.getElementById('said');"
        f"say.textContent = (() => {{ {script} }})(); }};</script>",
        encoding="utf-8",
    )
    dom = browse(outer, folder / "profile", "--allow-file-access-from-files", "--dump-dom")
    return text_of(dom, r'<p id="said">(.*?)</p>')


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(made, tmp_path, width):
    _, page = made
    said = framed(page, tmp_path, width, "return f.documentElement.scrollWidth")
    assert 0 < int(said) <= width


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
