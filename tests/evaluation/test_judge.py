"""The judge against a small chat server on 127.0.0.1."""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from s1_plugin.evaluation.judge import Judge
from s1_plugin.forcing import http


class Server(ThreadingHTTPServer):
    """Replies what stands in ``script``: text, or an HTTP status."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.keys = deque(), [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body["messages"][0]["content"])
        self.server.keys.append(self.headers.get("Authorization"))
        said = self.server.script.popleft()
        status, reply = (said, {"error": "no"}) if isinstance(said, int) else (200, None)
        reply = reply or {"choices": [{"message": {"content": said}}]}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def judge(server, tmp_path):
    return Judge(server.url, "m", tmp_path / "kept", key="sk-secret")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(http, "_LONGEST_PAUSE", 0.01)


def test_it_is_asked_only_where_the_rules_say_wrong(server, judge):
    assert judge.grade("1+1", "Answer: 2", "2", "integer").grade.correct
    assert not judge.grade("1+1", None, "2", "integer").judged
    assert not judge.grade("1+1", "  ", "2", "integer").judged
    assert server.asked == []
    server.script.append("2\n")
    found = judge.grade("what is 1+1", "two, of course", "2", "integer")
    assert found.judged and found.grade.correct and found.grade.extracted == "2"
    assert "what is 1+1" in server.asked[0] and "two, of course" in server.asked[0]
    assert server.keys == ["Bearer sk-secret"]


@pytest.mark.parametrize(
    ("said", "kind", "gold", "correct"),
    [
        ("NONE", "integer", "2", False),
        ("none.", "letter", "A", False),
        ("B", "letter", "B", True),
        ("\\frac{1}{2}", "math", "0.5", True),
        ("$\\boxed{0.5}$", "math", "\\frac12", True),
        ("3", "integer", "2", False),
        ("", "integer", "2", False),
    ],
)
def test_what_it_reads_is_graded_by_the_rules(server, judge, said, kind, gold, correct):
    server.script.append(said)
    found = judge.grade("q", "some words", gold, kind)
    assert found.judged and found.grade.correct == correct


def test_replies_are_kept(server, judge, tmp_path):
    server.script.append("2")
    first = judge.grade("q", "two", "2", "integer")
    again = Judge(server.url, "m", tmp_path / "kept")
    assert again.grade("q", "two", "2", "integer") == first and len(server.asked) == 1
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_text('{"reply": ')  # torn
    server.script.append("2")
    assert again.grade("q", "two", "2", "integer") == first and len(server.asked) == 2
    assert "sk-secret" not in kept.read_text()


def test_retries_are_bounded_and_the_rules_grade_stands(server, judge, capsys):
    server.script.extend([503, 429, "2"])
    assert judge.grade("q", "two", "2", "integer").grade.correct
    server.script.extend([500] * 100)
    found = [judge.grade("q", f"some {n} words", "3", "integer") for n in "abcdef"]
    assert all(f.failed and not f.judged and not f.grade.correct for f in found)
    assert len(server.asked) == 3 + 3 * 5  # three answers five times; then no more
    said = capsys.readouterr().err
    assert said.count("asked no more") == 1 and "S1_JUDGE_URL" in said


def test_a_wrong_key_is_not_tried_again(server, judge, capsys):
    server.script.append(401)
    assert [judge.grade("q", a, "3", "integer").failed for a in ("no", "nil")] == [True, True]
    assert len(server.asked) == 1
    assert "sk-secret" not in capsys.readouterr().err


def test_settings(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("S1_JUDGE_URL", raising=False)
    monkeypatch.delenv("S1_JUDGE_MODEL", raising=False)
    assert Judge.from_environment() is None
    monkeypatch.setenv("S1_JUDGE_URL", "http://localhost:1/v1")
    with pytest.raises(ValueError, match="S1_JUDGE_MODEL"):
        Judge.from_environment()
    monkeypatch.setenv("S1_JUDGE_MODEL", "m")
    monkeypatch.setenv("S1_CACHE", str(tmp_path))
    made = Judge.from_environment()
    assert made.url == "http://localhost:1/v1/chat/completions" and made.cache == tmp_path / "judge"
    monkeypatch.setenv("S1_JUDGE_MODEL", "left-over")
    capsys.readouterr()
    assert Judge.from_environment() and Judge.from_environment()
    (line,) = capsys.readouterr().err.splitlines()
    assert "read by a judge, left-over" in line and "unset S1_JUDGE_URL" in line
    monkeypatch.setenv("S1_JUDGE_URL", "localhost:1")
    with pytest.raises(ValueError, match="is not an address"):
        Judge.from_environment()
