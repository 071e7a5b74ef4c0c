"""A headless Chromium that opens pages and says what is in them."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the PATH (apt-get install chromium)"
)


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


def text_of(dom: str, pattern: str) -> str:
    found = re.search(pattern, dom, re.S)
    assert found, pattern
    return html.unescape(re.sub(r"<[^>]+>", "", found[1]))


def assert_nothing_missing_is_written(dom: str) -> None:
    shown = re.sub(r"<script.*?</script>|<style.*?</style>", "", dom, flags=re.S)
    words = re.sub(r"<[^>]+>", "\n", shown)
    assert not re.search(r"\b(null|undefined|NaN)\b|\[object", words)
