"""A small `/v1/completions` server on 127.0.0.1 that misbehaves on demand.

It streams server-sent events as vLLM does, or as plainer servers do: text instead of token ids,
special tokens dropped, unknown parameters refused. Faults are taken from a queue, one per request.
"""

import hashlib
import json
import random
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

PLAIN = {"model", "prompt", "max_tokens", "temperature", "top_p", "stream", "seed", "logit_bias"}
PLAIN |= {"stop"}


class HashModel:
    """The next token is a hash of all before it: deterministic, and no torch needed."""

    def __init__(self, tokens, ends, every=17):
        self.tokens, self.ends, self.every = list(tokens), list(ends), every

    def stream(self, ids, bias, temperature=0.0, seed=0):
        ids = list(ids)
        while True:
            token = self.next(ids, bias, seed if temperature else 0)
            yield token
            ids.append(token)

    def next(self, ids, bias, seed=0):
        if forced := [t for t, b in bias.items() if b >= 100]:
            return forced[0]
        for attempt in range(1000):
            text = f"{ids[-24:]}/{attempt}/{seed}".encode()
            number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
            pool = self.ends if number % self.every == 0 else self.tokens
            token = pool[(number >> 8) % len(pool)]
            if bias.get(token, 0) > -100:
                return token
        raise AssertionError


class TorchModel:
    """Greedy decoding of a transformers model, with a cache; ids from ``vocabulary`` on masked."""

    def __init__(self, model, vocabulary):
        self.model, self.vocabulary, self.lock = model, vocabulary, threading.Lock()

    def stream(self, ids, bias, temperature=0.0, seed=0):
        import torch

        past, step, seen = None, list(ids), 0
        while True:
            with self.lock, torch.inference_mode():
                positions = torch.arange(seen, seen + len(step)).unsqueeze(0)
                out = self.model(
                    input_ids=torch.tensor([step]),
                    position_ids=positions,
                    past_key_values=past,
                    use_cache=True,
                )
            seen, past = seen + len(step), out.past_key_values
            logits = out.logits[0, -1].float().clone()
            logits[self.vocabulary :] = -torch.inf
            for token, value in bias.items():
                logits[token] += value
            step = [int(logits.argmax())]
            yield step[0]


class Server:
    """A context manager; ``url`` is the completions address.

    Args:
        eos: the server's own end-of-sequence ids.
        ids: takes token ids as prompts, and the parameters of vLLM; returns token ids.
        special: special tokens are in the text (True), or dropped from it without stopping.
        limit: most tokens of one reply, whatever is asked for.
    """

    context = 2048

    def __init__(self, model, tokenizer, *, eos, ids=True, special=True, limit=10**9, bias=True):
        self.model, self.tokenizer, self.eos = model, tokenizer, set(eos)
        self.ids, self.special, self.limit, self.bias = ids, special, limit, bias
        self.name = "tiny"
        self.faults, self.requests, self.headers = deque(), [], []

    def __enter__(self):
        server = self

        class Handler(_Handler):
            owner = server

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # clients that hang up are part of the tests

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1/completions"
        return self

    def __exit__(self, *exc):
        self.http.shutdown()
        self.http.server_close()

    def events(self, request):
        """The reply to ``request`` as event dictionaries."""
        prompt = request["prompt"]
        if isinstance(prompt, str):
            prompt = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        bias = {int(t): b for t, b in (request.get("logit_bias") or {}).items()}
        drawn = self.model.stream(
            prompt, bias if self.bias else {}, request["temperature"], request.get("seed", 0)
        )
        stops = self.eos | set(request.get("stop_token_ids", ()) if self.ids else ())
        sent, out = "", []
        for token in drawn:
            out.append(token)
            stopped, text = token in stops, self._text(out[:-1] if token in stops else out)
            for stop in request.get("stop", ()):
                if stop in text:
                    stopped, text = True, text[: text.index(stop)]
            full = len(out) >= min(request["max_tokens"], self.limit)
            if not (stopped or full) and text.endswith("\ufffd"):
                text = sent  # a character that is not whole yet
            choice = {"index": 0, "text": text[len(sent) :], "finish_reason": None}
            if self.ids:
                choice |= {"token_ids": [token], "stop_reason": token if stopped else None}
            if stopped or full:
                choice["finish_reason"] = "stop" if stopped else "length"
            yield {"object": "text_completion", "choices": [choice]}
            sent = text
            if stopped or full:
                return

    def _text(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=not self.special)


class Proxy(Server):
    """The replies of another server, with faults put in."""

    def __init__(self, url, context):
        super().__init__(None, None, eos=())
        self.upstream, self.context = url, context

    def events(self, request):
        headers = {"Content-Type": "application/json"}
        post = Request(self.upstream, json.dumps(request).encode(), headers)
        with urlopen(post, timeout=60) as reply:
            for line in reply:
                if line.startswith(b"data: {"):
                    yield json.loads(line.removeprefix(b"data: "))


def some_faults(count, seed=0):
    """``count`` faults of every kind among seven times as many requests that go well."""
    kinds = [
        ("status", 429, {"Retry-After": "0"}),
        ("status", 500, {}),
        ("status", 503, {}),
        ("drop", 0),
        ("drop", 2),
        ("cut", 1),
        ("half", 1),
    ]
    faults = [kinds[i % len(kinds)] for i in range(count)] + [("none",)] * 7 * count
    random.Random(seed).shuffle(faults)
    return faults


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._send(200, {"data": [{"id": self.owner.name, "max_model_len": self.owner.context}]})

    def do_POST(self):
        owner = self.owner
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner.requests.append(request)
        owner.headers.append(dict(self.headers))
        fault, *how = owner.faults.popleft() if owner.faults else ("none",)
        if fault == "status":
            self._send(how[0], {"error": {"message": how[2] if len(how) > 2 else "busy"}}, how[1])
            return
        if not owner.ids:
            if unknown := set(request) - PLAIN:
                self._send(400, {"error": {"message": f"unknown argument {sorted(unknown)}"}})
                return
            if not isinstance(request["prompt"], str):
                self._send(422, {"detail": "prompt must be a string"})
                return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, event in enumerate(owner.events(request)):
                data = f"data: {json.dumps(event)}\n\n".encode()
                if fault != "none" and number == how[0]:
                    if fault == "silence":
                        time.sleep(how[1])
                    elif fault == "half":
                        self._chunk(data[: len(data) // 2])
                    self.close_connection = True
                    self.connection.close() if fault == "drop" else self._chunk(b"")
                    return
                self._chunk(data)
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except OSError:  # the client has heard enough
            self.close_connection = True

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
