from __future__ import annotations

import json

from s1_plugin.data.attempts import Attempts
from s1_plugin.data.rows import load


def test_answers_are_found_by_the_question(tmp_path):
    ledger = [
        {"question": "Find  $x$.", "attempt": "", "partial_attempt": "7", "status": "no_thinking"},
        {"question": "Find $y$.", "attempt": "3", "status": "ok"},
        {"question": "Find $y$.", "attempt": "", "status": "error"},
        {"question": "find $y$", "attempt": "4", "status": "ok"},
        {"question": "Find $z$.", "attempt": "", "partial_attempt": "1", "status": "truncated"},
    ]
    path = tmp_path / "traces.jsonl"
    lines = [json.dumps({**row, "thinking_trajectories": ["t"]}) + "\n" for row in ledger]
    path.write_text("".join(lines))
    found = Attempts(load([str(path)], tmp_path))
    assert found.of("find $x$") == ["7"]
    assert found.of("Find $y$.") == ["3", "4"] and found.failed("Find $y$.") == 1
    assert found.of("Find $z$.") == [""]  # what was cut is an attempt, and not right
    assert found.of("Find $w$.") == [] and found.failed("Find $w$.") == 0
