"""A teacher in this process: vLLM, on as many GPUs and nodes as it and Ray serve.

Its asynchronous engine is asked as a server is, one request per question, so the same ledger,
limits and bar serve both, and every reply is on disk as soon as it is whole: no batch waits for
its longest trace.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from s1_plugin.distill.limits import Hopeless
from s1_plugin.distill.replies import Reply, split_format
from s1_plugin.distill.teachers import Asked
from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.http import Refused, Unavailable
from s1_plugin.formats import TraceFormat

#: Engine arguments that change what a model writes; all others say how fast.
_HEARD = (
    *("dtype", "quantization", "quantization_config", "kv_cache_dtype", "hf_overrides"),
    *("revision", "tokenizer", "tokenizer_revision", "logits_processors"),
    *("generation_config", "override_generation_config"),
)
#: What vLLM takes from a model's ``generation_config.json``.
_SAMPLING = (
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("temperature", "top_k", "top_p", "min_p", "max_new_tokens"),
)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


class Engine:
    """The model in ``path`` (a folder or hub id).

    Args:
        fmt: in which the model thinks.
        arguments: of vLLM's ``AsyncEngineArgs``, such as ``tensor_parallel_size``.
    """

    host = "local"

    def __init__(self, path: str, fmt: TraceFormat, arguments: Mapping[str, Any]) -> None:
        # Of a folder the end alone: nobody needs to know where it is.
        self.name = "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else path
        self._path = path
        self._fmt, self._arguments, self._number = fmt, dict(arguments), count()

    def provenance(self) -> dict[str, Any]:
        """What makes this another teacher than one of the same name: ``model``, a digest of its
        files; ``engine``, the arguments that change what it writes; ``defaults``, its own sampling.

        Raises:
            ValueError: if there is no such model.
        """
        heard = {name: self._arguments[name] for name in _HEARD if name in self._arguments}
        found = {
            "model": _digest(self._path, self._arguments.get("revision")),
            "engine": heard,
            "defaults": self._sampling(),
        }
        return {name: value for name, value in found.items() if value}

    def _sampling(self) -> dict[str, Any]:
        source = self._arguments.get("generation_config", "auto")
        if source == "vllm":
            return {}
        try:
            where, revision = source, None
            if source == "auto":
                where, revision = self._path, self._arguments.get("revision")
            said = json.loads(_file(where, "generation_config.json", revision).read_bytes())
        except OSError:  # many have none
            return {}
        return {name: said[name] for name in _SAMPLING if said.get(name) is not None}

    async def __aenter__(self) -> Engine:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise Hopeless(
                f"--teacher vllm:{self.name} needs vLLM ({error}): "
                "in a checkout of s1-plugin, pip install '.[vllm]' into an environment of its own"
            ) from None
        try:
            arguments = AsyncEngineArgs(model=self._path, **self._arguments)
            with interrupts_blocked():
                self._engine = AsyncLLM.from_engine_args(arguments)
        except Exception as error:  # whatever it is, no question can be asked
            raise Hopeless(
                f"vLLM cannot load {self._path}: {type(error).__name__}: {error}; change "
                "--engine-args, or name a model that it serves"
            ) from None
        self._encoder = TextEncoder(self._engine.get_tokenizer())
        self._defaults = arguments.create_model_config().get_diff_sampling_param()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._engine.shutdown()
        # Its finaliser complains if it first runs when the interpreter goes down.
        del self._engine
        gc.collect()

    async def ask(self, asked: Asked, heard: Callable[[], None]) -> Reply:
        """See `Teacher.ask`."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError

        stops = [self._encoder.control_id(stop) for stop in self._fmt.stop]
        how = SamplingParams(
            **{
                **self._defaults,
                **asked.sampling(),
                "max_tokens": asked.max_tokens,
                "stop_token_ids": [stop for stop in stops if stop is not None],
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
            }
        )
        prompt = TokensPrompt(prompt_token_ids=prompt_ids(self._encoder, asked.question, self._fmt))
        last: Any = None
        try:
            async for output in self._engine.generate(prompt, how, f"s1-{next(self._number)}"):
                heard()
                last = output
        except EngineDeadError as error:
            raise Hopeless(f"vLLM's engine died: {error}; see its log above") from None
        except ValueError as error:  # too long a prompt
            raise Refused(str(error)) from None
        return whole(last, self._fmt, self.name)


def whole(last: Any, fmt: TraceFormat, name: str) -> Reply:
    """The reply in vLLM's last ``RequestOutput``, None if there was none.

    Raises:
        Unavailable: if it did not end by itself or at the token limit.
    """
    done = last.outputs[0] if last is not None and last.outputs else None
    if done is None or done.finish_reason not in ("stop", "length"):
        how = repr(done.finish_reason) if done else "without a reply"
        raise Unavailable(f"vLLM ended the request early ({how})")
    thinking, answer = split_format(done.text, fmt)
    return Reply(
        thinking=thinking,
        answer=answer,
        finish=done.finish_reason,
        served_as=name,
        prompt_tokens=len(last.prompt_token_ids),
        completion_tokens=len(done.token_ids),
    )


def _file(model: str, name: str, revision: str | None) -> Path:
    """A file of a folder or hub id. Raises `OSError` or `ValueError` if there is none."""
    if Path(model).exists():
        return Path(model) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model, name, revision=revision))


def _digest(model: str, revision: str | None) -> str:
    """Of ``config.json`` and the commit of a hub id, or the weights of a folder: names, sizes and
    sixteen blocks of each, as training changes no size and nearly every block."""
    digest = hashlib.sha256()
    folder = Path(model)
    try:
        if folder.is_file():
            files = [folder]
        else:
            config = _file(model, "config.json", revision)
            digest.update(config.read_bytes())
            files = sorted(p for p in folder.glob("*") if p.suffix in _WEIGHTS)
            if not folder.exists():
                digest.update(config.parent.name.encode())  # the commit, in the hub's cache
        for path in files:
            size = path.stat().st_size
            digest.update(f"\n{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for block in range(16):
                    file.seek(size * block // 16)
                    digest.update(file.read(4096))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--teacher vllm:{model}: cannot be read ({error}); name a folder with a model, or the "
            "id of one on the hub"
        ) from None
    return digest.hexdigest()[:16]


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started within never see ctrl-C, which a terminal sends to all of them: the
    replies under way are to come to their end. They end by SIGTERM, as ever."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prompt_ids(encoder: TextEncoder, question: str, fmt: TraceFormat) -> list[int]:
    """The chat prompt with the thinking begun; the question never becomes control tokens."""
    pieces = encoder.prompt_pieces(question, fmt)
    return encoder.encode(pieces) + encoder.scaffold_ids(fmt.think_start)
