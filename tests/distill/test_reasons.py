from s1_plugin.distill.limits import REMEDIES
from s1_plugin.distill.reasons import Reasons
from s1_plugin.distill.replies import STATUSES


def lines(*reasons):
    found = Reasons()
    for status, reason in reasons:
        found.add(status, reason)
    return list(found.lines())


def test_kinds_are_counted_with_their_remedy():
    said = lines(
        *[("truncated", "cut; raise --max-tokens")] * 3,
        *[("error", f"HTTP 400: {n} tokens") for n in (7000, 8000)],
        *[("refused", text) for text in ("I will not", "Never", "No", "Not that")],
    )
    assert said == [
        f"4 × refused: I will not. {REMEDIES['refused']}",
        f"3 × truncated: cut; raise --max-tokens. {REMEDIES['truncated']}",
        f"2 × error: HTTP 400: 7000 tokens. {REMEDIES['error']}",
    ]


def test_every_status_has_a_remedy():
    assert set(REMEDIES) == set(STATUSES) - {"ok"}


def test_many_kinds_take_neither_the_screen_nor_the_memory():
    names = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(5000)]
    found = Reasons()
    for name in names:
        found.add("error", name)
    said = list(found.lines())
    assert len(said) == 9 and len(found._first) <= 201
    assert sum(int(line.split(" × ")[0].replace(",", "")) for line in said) == 5000


def test_what_a_server_says_does_not_move_the_cursor():
    (said,) = lines(("error", "a\x1b[2J\nb" + "x" * 500))
    assert said.startswith("1 × error: a\\x1b[2J bxxx") and len(said) < 500


def test_sentences_end_once():
    (said,) = lines(("refused", "I cannot help with that."))
    assert said == f"1 × refused: I cannot help with that. {REMEDIES['refused']}"
