"""The client against real servers: `FakeTeacher`, or one that says just what a test wants."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from email.utils import formatdate
from time import time

import pytest

from s1_plugin.distill.failures import Busy, Free
from s1_plugin.distill.limits import Hopeless
from s1_plugin.distill.teachers import Asked, Server
from s1_plugin.forcing.http import Refused, Unavailable
from s1_plugin.formats import S1

KEY = "sk-teacher-0123456789"
ASKED = Asked("1+1?", 100, temperature=0.5)


@asynccontextmanager
async def saying(*parts, requests=None):
    """A server that answers every request with ``parts`` as they are, and hangs up."""

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        if requests is not None:
            requests.append((head, body))
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def status(code, body, *headers, kind="application/json"):
    lines = [f"HTTP/1.1 {code} Said", f"Content-Type: {kind}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", body]).encode()


def stream(*events, done=True):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    return head + b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def delta(finish=None, **fields):
    return {"model": "served", "choices": [{"delta": fields, "finish_reason": finish}]}


def ask(*parts, requests=None, **how):
    async def go():
        async with (
            saying(*parts, requests=requests) as url,
            Server("m", url, **{"stall": 0.5, "key_variable": "OPENAI_API_KEY", **how}) as teacher,
        ):
            return await teacher.ask(ASKED, lambda: None)

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 4,
        "completion_tokens": 9,
        "completion_tokens_details": {"reasoning_tokens": 7},
    },
}
GOOGLE = {"extra_content": {"google": {"thought": True}}}


@pytest.mark.parametrize(
    "events",
    [
        [delta(reasoning_content="th"), delta(reasoning_content="ink"), delta(content="answer")],
        [delta(reasoning="think"), delta(content="answer")],
        [delta(content="<think>\nth"), delta(content="ink</th"), delta(content="ink>\n\nanswer")],
        [delta(content="<thought>think", **GOOGLE), delta(content="</thought>answer")],
        [delta(content="think", **GOOGLE), delta(content="answer")],
        [
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "th"}]}]),
            delta(content=[{"type": "thinking", "thinking": "ink"}]),
            delta(content=[{"type": "text", "text": "ans"}, {"type": "text", "text": "wer"}]),
        ],
    ],
)
def test_channels(events):
    reply = ask(stream(*events, delta("stop"), USAGE))
    assert (reply.thinking, reply.answer, reply.finish) == ("think", "answer", "stop")
    assert (reply.served_as, reply.prompt_tokens, reply.completion_tokens) == ("served", 4, 9)
    assert reply.reasoning_tokens == 7 and reply.status() == ("ok", "")


def test_a_reply_that_is_not_streamed():
    whole = {
        "model": "served",
        "choices": [
            {"message": {"reasoning_content": "t", "content": "a"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 9},
    }
    reply = ask(status(200, json.dumps(whole)))
    assert (reply.thinking, reply.answer, reply.completion_tokens) == ("t", "a", 9)


def whole(**message):
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "body",
    [
        *([], ["a"], 5, "a", None, {"choices": {"a": 1}}, {"choices": ["a"]}),
        *(whole(content=5), whole(content=[5]), whole(content=[{"type": "image"}])),
        *(whole(content=[{"type": "text"}]), whole(reasoning={"a": 1}), whole(refusal=[KEY])),
        {**whole(content="a"), "usage": [1]},
        {**whole(content="a"), "usage": {"prompt_tokens": KEY}},
    ],
)
def test_forms_that_are_not_known_are_the_questions_end(body):
    with pytest.raises(Refused, match="the reply has a form that is not known: ") as error:
        ask(status(200, json.dumps(body)))
    assert KEY not in str(error.value) and error.value.status == 0


def test_odd_forms_in_a_stream():
    with pytest.raises(Refused, match="a form that is not known: TypeError"):
        ask(stream(delta(content="a"), delta(content=[{"type": "image"}]), delta("stop")))


def test_surrogates_that_a_stream_parts_are_put_together():
    halves = [delta(reasoning="\ud83d"), delta(reasoning="\ude00\ud83d"), delta(content="a")]
    assert ask(stream(*halves, delta("stop"))).thinking == "😀\ufffd"


def test_what_is_sent(monkeypatch):
    requests = []
    extra = {"reasoning_effort": "high"}
    ask(stream(delta(content="a"), delta("stop")), requests=requests, extra=extra)
    ((head, body),) = requests
    assert head.startswith("POST /v1/chat/completions ") and f"Bearer {KEY}" in head
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "1+1?"}], "max_tokens": 100,
        "temperature": 0.5, "stream": True, "stream_options": {"include_usage": True},
        "reasoning_effort": "high",
    }  # fmt: skip
    assert "thinking_config" in json.dumps(
        Server("m", "https://generativelanguage.googleapis.com/v1beta/openai").extra
    )


def test_a_format_goes_through_completions():
    requests = []
    text = "\nthink\n<|im_start|>answer\nAnswer: 2"
    events = [{"model": "served", "choices": [{"text": text, "finish_reason": "stop"}]}]
    reply = ask(stream(*events), requests=requests, fmt=S1, prompt=lambda text: [1, 2])
    assert (reply.thinking, reply.answer) == ("think", "Answer: 2")
    ((head, body),) = requests
    assert head.startswith("POST /v1/completions ")
    assert body["prompt"] == [1, 2] and body["skip_special_tokens"] is False


#: https://openrouter.ai/docs/api-reference/errors, its moderation errors.
FLAGGED = json.dumps(
    {
        "error": {
            "code": 403,
            "message": "Your input was flagged",
            "metadata": {"reasons": ["violence"], "flagged_input": "how to", "provider_name": "x"},
        }
    }
)


@pytest.mark.parametrize(
    ("parts", "kind", "said"),
    [
        ([status(429, "{}", "Retry-After: 7")], Unavailable, "HTTP 429"),
        ([status(500, "<html>")], Unavailable, "HTTP 500: <html>"),
        ([status(529, "{}")], Unavailable, "HTTP 529"),
        ([b""], Unavailable, "the connection was dropped: Server disconnected"),
        ([2.0], Unavailable, "nothing came for 0.5 s"),
        ([stream(delta(content="a"), done=False), 2.0], Unavailable, "nothing came for 0.5 s"),
        (
            [stream(delta(content="a"), done=False)],
            Unavailable,
            "ended the reply early, without saying why",
        ),
        (
            [stream(delta("insufficient_system_resource"))],
            Unavailable,
            "early, with 'insufficient_system_resource'",
        ),
        ([stream(delta(content="a"), done=False) + b"data: {\n\n"], Unavailable, "broke off"),
        ([status(200, '{"choices": [')], Unavailable, "broke off"),
        ([stream({"error": {"message": "overloaded"}})], Unavailable, "overloaded"),
        ([stream({"error": {"message": "bad", "code": 400}})], Refused, "HTTP 400: bad"),
        ([status(400, '{"error": {"message": "prompt too long"}}')], Refused, "prompt too long"),
        ([status(401, '{"error": {"message": "bad key"}}')], Hopeless, "OPENAI_API_KEY"),
        ([status(402, "{}")], Hopeless, "top it up"),
        ([status(403, "{}")], Hopeless, "the key in OPENAI_API_KEY may not use 'm' at 127.0.0.1"),
        ([status(403, FLAGGED)], Refused, "HTTP 403: Your input was flagged"),
        ([stream({"error": {"message": "slow down", "code": 429}})], Busy, "HTTP 429: slow down"),
        ([status(200, '{"error": {"message": "slow", "code": 429}}')], Busy, "HTTP 429: slow"),
        ([status(200, '{"error": "crowded"}')], Unavailable, "an error in the reply: crowded"),
        (
            [status(200, "<html>", kind="text/html")],
            Hopeless,
            "is text/html, no OpenAI reply; check",
        ),
        ([status(200, '{"status": "ok"}')], Hopeless, "--base-url, which often ends with /v1"),
        ([status(404, '{"detail": "Not Found"}')], Hopeless, "--base-url"),
        ([status(400, '{"error": {"message": "Model Not Exist"}}')], Hopeless, "--teacher"),
        ([status(400, '[{"error": {"message": "API key not valid"}}]')], Hopeless, "valid key"),
        (
            [status(429, '{"error": {"code": "insufficient_quota", "message": "quota"}}')],
            Hopeless,
            "top it up",
        ),
        ([status(307, "", "Location: http://elsewhere/")], Hopeless, "another one now"),
    ],
)
def test_failures_are_sorted(parts, kind, said):
    with pytest.raises(kind) as error:
        ask(*parts)
    assert said in str(error.value) and not str(error.value).endswith(".")
    if "Retry-After" in str(parts):
        assert error.value.retry_after == 7


@pytest.mark.parametrize(
    ("parts", "free"),
    [
        ([status(429, "{}")], True),
        ([status(500, "{}")], True),
        ([b""], False),  # hung up after some thinking, perhaps
        ([2.0], False),  # no byte within --stall: it may be thinking
        ([stream(delta(content="a"), done=False)], False),
    ],
)
def test_what_surely_costs_nothing(parts, free):
    with pytest.raises(Unavailable) as error:
        ask(*parts)
    assert isinstance(error.value, Free) == free


def test_a_dropped_connection_is_no_silence():
    async def drop(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")
        await writer.drain()
        reset = struct.pack("ii", 1, 0)  # httpx says nothing about it
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()

    async def go():
        server = await asyncio.start_server(drop, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with Server("m", url) as teacher:
            await teacher.ask(ASKED, lambda: None)

    with pytest.raises(Unavailable, match=r"^the connection was dropped: ReadError$"):
        asyncio.run(go())


@pytest.mark.parametrize(
    ("parts", "but"),
    [
        ([status(403, "{}")], Refused),
        ([status(200, "<p>", kind="text/html")], Free),
        ([status(401, "{}")], None),
    ],
)
def test_what_is_hopeless_only_before_the_first_answer(parts, but):
    with pytest.raises(Hopeless) as error:
        ask(*parts)
    assert error.value.but is None if but is None else type(error.value.but) is but


def test_retry_after_as_a_date():
    with pytest.raises(Unavailable) as error:
        ask(status(503, "{}", f"Retry-After: {formatdate(time() + 60, usegmt=True)}"))
    assert 57 < error.value.retry_after <= 60


def test_a_context_that_is_too_short_for_one_question_stops_no_other():
    said = '{"error": {"message": "This model\'s maximum context length is 9", "code": "invalid"}}'
    with pytest.raises(Refused):
        ask(status(400, said))


@pytest.mark.parametrize(
    ("code", "body"),
    [(400, '{"error": {"code": "content_filter", "message": "no"}}'), (403, FLAGGED)],
)
def test_a_filtered_question_is_a_refusal(code, body):
    with pytest.raises(Refused) as error:
        ask(status(code, body))
    assert error.value.status == 451


@pytest.mark.parametrize("code", [400, 401, 429, 500])
def test_a_server_that_repeats_the_key_gives_nothing_away(code):
    with pytest.raises((Hopeless, Refused, Unavailable)) as error:
        ask(status(code, json.dumps({"error": {"message": f"no {KEY}\x1b[2J"}})))
    assert KEY not in str(error.value) and "no ***\\x1b[2J" in str(error.value)
    assert KEY not in repr(error.value.__context__ or "")


@pytest.mark.parametrize("before", [475, 490, 499])
@pytest.mark.parametrize(
    "parts",
    [
        lambda said: [status(400, json.dumps({"error": {"message": said}}))],
        lambda said: [status(500, said)],
        lambda said: [stream({"error": {"message": said}})],
        lambda said: [status(200, json.dumps({**whole(), "usage": {"prompt_tokens": said}}))],
    ],
)
def test_a_message_is_cut_after_its_scrubbing(before, parts):
    with pytest.raises((Refused, Unavailable)) as error:
        ask(*parts("x" * before + KEY))
    assert KEY[:3] not in str(error.value) and len(str(error.value)) < 560


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("http://127.0.0.1:9/v1", Free, "no connection to 127.0.0.1 of --base-url: "),
        ("http://nobody.invalid/v1", Hopeless, "there is no host nobody.invalid of --base-url"),
    ],
)
def test_nobody_there(url, kind, said):
    async def go():
        async with Server("m", url) as teacher:
            await teacher.ask(ASKED, lambda: None)

    with pytest.raises(kind, match=said) as error:
        asyncio.run(go())
    assert kind is Free or type(error.value.but) is Free  # it was there before: the network's


def test_a_key_that_a_reply_repeats_is_in_no_row():
    parts = [{**delta(reasoning=f"a {KEY[:9]}")}, delta(reasoning=KEY[9:]), delta(content=KEY)]
    end = {**delta(f"content_filter: {KEY}", refusal=f"no {KEY}"), "model": f"m {KEY}"}
    reply = ask(stream(*parts, end))
    assert KEY not in repr(reply) and KEY not in repr(reply.status())
    assert (reply.thinking, reply.answer, reply.served_as) == ("a ***", "***", "m ***")
    assert (reply.finish, reply.refusal) == ("content_filter: ***", "no ***")


def test_a_key_that_is_no_secret_is_a_word_of_a_trace(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    reply = ask(stream(delta(reasoning="an EMPTY set"), delta("stop", content="a")))
    assert reply.thinking == "an EMPTY set"


@pytest.mark.parametrize("url", ["localhost:8000", "http://u:p@h/v1", "https://h/v1?key=x", ""])
def test_addresses_that_are_refused(url):
    with pytest.raises(ValueError, match="--base-url") as error:
        Server("m", url)
    assert "u:p" not in str(error.value) and "key=x" not in str(error.value)


def test_where_the_key_comes_from(monkeypatch):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    Server("m", "http://localhost/v1").check_key()
    with pytest.raises(ValueError, match="DEEPSEEK_API_KEY is not set"):
        Server("m", "https://api.deepseek.com/v1").check_key()
    with pytest.raises(ValueError, match="MINE is not set"):
        Server("m", "http://localhost/v1", key_variable="MINE").check_key()
    openai = Server("m", "https://api.openai.com/v1")
    assert openai.key_said() == "the key in OPENAI_API_KEY goes to api.openai.com"


def test_a_host_that_is_not_known_gets_no_key():
    requests = []
    ask(stream(delta("stop", content="a")), requests=requests, key_variable=None)
    assert KEY not in requests[0][0] and "authorization" not in requests[0][0].lower()
    assert Server("m", "http://api.openai.com/v1").key_variable is None  # in the clear
    said = Server("m", "http://h/v1").key_said()
    assert said == "no key goes to h; --key-env names the variable of one"
    said = Server("m", "http://api.deepseek.com/v1").key_said()
    assert said == "no key goes to api.deepseek.com by http, which all can read: write https://…"
    with pytest.raises(Hopeless, match=r"no key was sent.*--key-env"):
        ask(status(401, "{}"), key_variable=None)


@pytest.mark.parametrize("key", ["sk-“quoted”", "sk-a\nb", "sk-\u200b1"])
def test_a_key_that_no_header_holds_is_refused_at_once(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters") as error:
        Server("m", "http://localhost/v1", key_variable="OPENAI_API_KEY").check_key()
    assert key not in str(error.value)
