import pytest

from s1_plugin.distill.replies import STATUSES, Reply, split_format, split_tags
from s1_plugin.formats import S1, THINK_TAGS


@pytest.mark.parametrize(
    ("text", "reasoning", "want"),
    [
        ("answer", "thinking\n", ("thinking", "answer")),  # two channels
        ("<think>\nthinking\n</think>\n\nanswer", "", ("thinking", "answer")),
        ("thinking\n</think>\n\nanswer", "", ("thinking", "answer")),  # the template opened it
        ("<thought>thinking</thought>answer", "", ("thinking", "answer")),  # Gemini
        ("</thought>answer", "<thought>thinking", ("thinking", "answer")),  # Gemini, marked
        ("<think>cut off", "", ("cut off", "")),
        ("<think>\n\n</think>\n\nanswer", "", ("", "answer")),  # thinking switched off
        ("a <think> b", "", ("", "a <think> b")),
        ("write </think> so: x", "why", ("why", "write </think> so: x")),
        ("a</think>b</think>c", "", ("a", "b</think>c")),
        ("", "", ("", "")),
        # Words before the tag are said, not thought.
        ("Sure.\n<think>x</think>", "", ("x", "Sure.")),
        ("Sure.\n\n<think>\nx\n</think>\n\ny", "", ("x", "Sure.\n\ny")),
        ("I write <think> so\n</think>\n\na", "", ("I write <think> so", "a")),
        ("<think>a\n<think>\nb</think>c", "", ("a\n<think>\nb", "c")),
        ("Sure.\n<think>cut off", "", ("", "Sure.\n<think>cut off")),
    ],
)
def test_split_tags(text, reasoning, want):
    assert split_tags(text, reasoning) == want


@pytest.mark.parametrize(
    ("text", "fmt", "want"),
    [
        ("\nt\n<|im_start|>answer\nAnswer: 1", S1, ("t", "Answer: 1")),
        ("\nt\n<|im_start|>answer\nAnswer: 1<|im_end|>", S1, ("t", "Answer: 1")),
        ("\nt<|im_end|>", S1, ("t", "")),
        ("\nt\n</think>\n\na", THINK_TAGS, ("t", "a")),
        ("t", THINK_TAGS, ("t", "")),
    ],
)
def test_split_format(text, fmt, want):
    assert split_format(text, fmt) == want


@pytest.mark.parametrize(
    ("thinking", "answer", "finish", "status", "reason"),
    [
        ("t", "a", "stop", "ok", ""),
        ("t", "a", "length", "truncated", "in the answer"),
        ("t", "", "length", "truncated", "in the thinking"),
        ("t", "", "stop", "empty", "thinking without an answer"),
        ("", "", "stop", "empty", "no text"),
        ("", "a", "stop", "no_thinking", "without thinking"),
        ("t", "a", "content_filter", "refused", "content filter"),
        ("t", "a", "content_filter: RECITATION", "refused", "content filter"),
        ("t", "a", "refusal", "refused", "content filter"),
        *(("t", "a", finish, "ok", "") for finish in ("eos", "eos_token", "end_turn", "STOP")),
        ("t", "a", "stop_sequence", "ok", ""),
        ("", "a", "eos", "no_thinking", "without thinking"),
        ("t", "a", "model_length", "truncated", "token limit"),
        ("t", "a", "max_tokens", "truncated", "token limit"),
        *(
            ("t", "a", finish, "truncated", f"finish {finish!r}")
            for finish in ("tool_calls", "repetition", "cancelled", "unknown", "None", "")
        ),
    ],
)
def test_status(thinking, answer, finish, status, reason):
    found = Reply(thinking, answer, finish).status()
    assert found[0] == status and reason in found[1] and status in STATUSES


def test_a_refusal_in_words():
    assert Reply("t", "", "stop", refusal="I will not").status() == ("refused", "I will not")
