"""What the demo shows of the commands it runs."""

import pytest

from s1_plugin.nano import steps

NOISE = "[WARNING] [torchao] Failed to load /x/_C_mxfp8.so: Could not load this library: /x/_C.so\n"
SCRIPT = f"""
import sys
print({NOISE!r}, end="", file=sys.stderr)
print("[s1-plugin] 0.1.0 active", file=sys.stderr)
print("first\\x1b[2Jline")
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script as a step; returns its log."""

    def run(code):
        script, log = tmp_path / "script.py", tmp_path / "step.log"
        script.write_text(code)
        steps.run(["python", str(script)], log, "trying")
        return log

    return run


def test_noise_goes_to_the_log_and_the_plugins_lines_are_shown(run, capsys):
    log = run(SCRIPT)
    shown = capsys.readouterr().out
    assert "torchao" not in shown and "first" not in shown
    assert "[s1-plugin] 0.1.0 active" in shown and "script.py" in shown
    assert NOISE in log.read_text() and "first" in log.read_text()
    assert f"all it said is in {log}" in shown


def test_a_failure_shows_the_end_of_the_log(run, capsys):
    with pytest.raises(SystemExit, match=r"trying failed \(exit status 3\)"):
        run(SCRIPT + "sys.exit(3)")
    shown = capsys.readouterr().out
    assert "| first\\x1b[2Jline" in shown and "torchao" in shown
    assert "\x1b" not in shown


def test_progress_is_told_now_and_then():
    watch = steps.Progress()
    bar = " 36%|███▌      | 403/1125 [01:09<01:11, 10.06it/s]\n"
    assert watch.tell(bar, 3.0) is None
    assert watch.tell("{'loss': '0.2519', 'grad_norm': '0.3'}\n", 11.0) is None
    assert watch.tell(bar, 12.0) == "  12 s: 403 of 1125 (35 %), loss 0.2519"
    assert watch.tell(bar, 13.0) is None
    named = "Forcing:  50%|█████     | 5/10 [00:01<00:01,  4.00it/s]\n"
    assert watch.tell(named, 99.0) == "  99 s: Forcing 5 of 10 (50 %), loss 0.2519"
