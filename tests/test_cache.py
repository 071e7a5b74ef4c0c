from __future__ import annotations

from pathlib import Path

from s1_plugin import cache


def test_the_variable_then_the_users_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("S1_CACHE", str(tmp_path))
    assert cache.folder("answers") == tmp_path / "answers"
    monkeypatch.delenv("S1_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder("judge") == tmp_path / "xdg" / "s1-plugin" / "judge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder("curate") == Path.home() / ".cache" / "s1-plugin" / "curate"
