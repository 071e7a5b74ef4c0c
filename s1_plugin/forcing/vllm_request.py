"""How a budget travels with a vLLM request, and how a response comes back.

A request is forced if its ``SamplingParams.extra_args`` (on a server: ``vllm_xargs``) hold one of
the names below, flat, as in lm-eval's ``--gen_kwargs``. Requests without them are left alone.

Which natural ends were replaced cannot be told from the tokens: a model may write "Wait" itself.
So the processor notes the end tokens it drew in one small file per request, named by the
``s1_trace`` of the request, in `trace_folder`; it does so only if that folder exists, and the
caller makes it. Files, because the engine usually runs in other processes than the caller.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from s1_plugin.encoding import TextEncoder, decode
from s1_plugin.forcing.budget import GEN_KWARGS, Budget, Plan
from s1_plugin.forcing.control import CONTROL_KWARGS
from s1_plugin.forcing.lane import Lane
from s1_plugin.forcing.response import Response
from s1_plugin.formats import TraceFormat, get_format

logger = logging.getLogger("vllm.s1_plugin")

#: ``s1_answering`` says that the prompt holds the thinking already: nothing is forced, and only
#: ids that the tokenizer does not know are kept from being drawn.
FORMAT, TRACE, ANSWERING = "s1_format", "s1_trace", "s1_answering"
NAMES = (*GEN_KWARGS, FORMAT, TRACE, ANSWERING)
PROCESSOR = "s1_plugin.forcing.vllm:BudgetForcingProcessor"

#: Sampling parameters that change the law of the draw by what was generated before (and so by
#: what was forced), or that end or steer the thinking by other rules, with their neutral values.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "repetition_penalty": (1.0,),
    "min_tokens": (0,),
    "stop": (None, []),
    "bad_words": (None, []),
    "logit_bias": (None, {}),
    "allowed_token_ids": (None, []),
    "structured_outputs": (None,),
    "thinking_token_budget": (None,),
    "repetition_detection": (None,),
}
#: Bounds on what a request may ask the engine to keep: far above any use, far below harm.
_MOST_STRINGS, _MOST_CHARACTERS = 32, 2000

#: Arguments of lm-eval's ``--gen_kwargs`` that are said otherwise here.
_ELSEWHERE = {
    "format": "use s1_format",
    "max_gen_toks": "use max_tokens",
    "seed": "use the request's own seed",
}
_REMEDY = {
    "repetition_penalty": "set it to 1.0 (the model's generation_config.json may hold another)",
    "min_tokens": "use min_tokens_thinking",
    "thinking_token_budget": "use max_tokens_thinking alone",
    "stop": "the answer ends at the format's stop tokens (stop_token_ids)",
}


def is_forced(extra: Mapping[str, Any] | None) -> bool:
    """Whether a request with these extra arguments asks for budget forcing."""
    return extra is not None and any(name in extra for name in NAMES)


def parse(extra: Mapping[str, Any]) -> tuple[Budget, TraceFormat]:
    """Budget and format of a forced request.

    Raises:
        ValueError: for values that make no sense, and for names that look misspelt.
    """
    check_names(extra)
    trace = extra.get(TRACE, "0" * 32)
    if not isinstance(trace, str) or not re.fullmatch(r"[0-9a-f]{32}", trace):
        raise ValueError(f"{TRACE} must be 32 hexadecimal digits, got {extra[TRACE]!r}")
    return Budget.from_gen_kwargs(extra), get_format(str(extra.get(FORMAT, "s1")))


def check_names(extra: Mapping[str, Any]) -> None:
    """Refuses names that were meant for us and would have no effect.

    Raises:
        ValueError: with the remedy.
    """
    for name in extra:
        if not isinstance(name, str):
            raise ValueError(f"argument names are strings, got {name!r}")
        if name in NAMES:
            continue
        if near := difflib.get_close_matches(name, NAMES, n=1, cutoff=0.85):
            raise ValueError(f"unknown argument {name!r}; did you mean {near[0]!r}?")
        if name in CONTROL_KWARGS or (name in _ELSEWHERE and is_forced(extra)):
            remedy = _ELSEWHERE.get(name, "put its sentence into the prompt (docs/forcing.md)")
            raise ValueError(f"{name} has no effect inside vLLM: {remedy}")


def validate(params: Any) -> None:
    """Refuses what cannot be honoured; called when a request is submitted.

    Raises:
        ValueError: with the remedy.
    """
    check_names(params.extra_args or {})
    if not is_forced(params.extra_args):
        return
    budget, _ = parse(params.extra_args)
    texts = [*budget.wait_texts, budget.forced_answer or ""]
    if len(texts) > _MOST_STRINGS or sum(map(len, texts)) > _MOST_CHARACTERS:
        raise ValueError(
            f"Wait strings and forced answer are more than {_MOST_STRINGS} strings or "
            f"{_MOST_CHARACTERS} characters; shorten them (the engine keeps them for every request)"
        )
    for name, neutral in _REFUSED.items():
        value = getattr(params, name, None)
        if value is not None and value not in neutral:
            raise ValueError(
                f"{name}={value!r} cannot be combined with budget forcing; "
                + _REMEDY.get(name, "remove it")
            )
    limit = params.max_tokens
    if limit is not None and not params.extra_args.get(ANSWERING):
        # The tokenizer is not at hand here; what it adds is a dozen delimiter tokens.
        least = budget.answer_reserve if budget.cap == "auto" else budget.cap
        if least >= limit:
            raise ValueError(
                f"max_tokens {limit} leaves no room for thinking and an answer: "
                + (
                    f"max_tokens_thinking=auto keeps {least} tokens for the answer; raise it"
                    if budget.cap == "auto"
                    else f"max_tokens_thinking is {least}; raise max_tokens"
                )
            )


def extra_args(budget: Budget, plan: Plan, format: str = "s1", trace: str | None = None) -> dict:
    """``extra_args`` (or ``vllm_xargs``) that make the processor follow ``plan``."""
    texts = budget.wait_texts
    extra: dict[str, Any] = {
        "max_tokens_thinking": plan.cap,
        "thinking_n_ignore": plan.waits if plan.cap else 0,  # without thinking nothing ends
        "thinking_n_ignore_str": texts[0] if len(texts) == 1 else list(texts),
        "min_tokens_thinking": min(plan.min_thinking, plan.cap),
        "answer_reserve": 1,  # the cap is a number here
        FORMAT: format,
    }
    if budget.forced_answer is not None:
        extra["forced_answer"] = budget.forced_answer
    if trace is not None:
        extra[TRACE] = trace
    return extra


def sampling_params(
    budget: Budget,
    plan: Plan,
    *,
    format: str = "s1",
    trace: str | None = None,
    seed: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
) -> Any:
    """vLLM ``SamplingParams`` for one forced request whose prompt ends with the thinking prefix.

    Args:
        plan: ``budget`` planned for this prompt.
        trace: a name from `new_trace` if a `Response` is wanted.
    """
    from vllm import SamplingParams

    return SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        max_tokens=plan.max_new_tokens,
        # The format says where an answer ends, the model's generation_config.json does not.
        stop_token_ids=sorted(plan.stop_ids),
        ignore_eos=True,
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        extra_args=extra_args(budget, plan, format, trace),
    )


# -- what came back -------------------------------------------------------------------------------


def trace_folder() -> Path:
    """Where traces are written, if it exists: ``S1_TRACE_DIR``, or a folder of this user's.

    Raises:
        RuntimeError: if the folder belongs to somebody else.
    """
    name = f"s1-plugin-{os.getuid() if hasattr(os, 'getuid') else 0}"
    folder = Path(os.environ.get("S1_TRACE_DIR") or Path(tempfile.gettempdir()) / name)
    if hasattr(os, "getuid") and folder.exists() and folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to another user; set S1_TRACE_DIR to one of yours")
    return folder


def new_trace() -> str:
    """A name for one request's trace; makes the folder."""
    trace_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    return secrets.token_hex(16)


#: Told of (position, end token drawn there or None), or of (None, why the request was refused).
Recorder = Callable[[int | None, int | str | None], None]


def recorder(trace: str | None) -> Recorder | None:
    """What notes a request's events in its trace; None if nobody waits for it, or if it cannot be
    written: a full disk must not stop the engine, and the reader will say that nothing came."""
    if trace is None:
        return None
    try:
        folder = trace_folder()
        if not folder.is_dir():
            return None
        path = folder / trace
        path.touch(mode=0o600)
    except (OSError, RuntimeError) as error:
        logger.error("[s1-plugin] no trace is written: %s", error)
        return None
    broken = False

    def record(position: int | None, drawn: int | str | None) -> None:
        nonlocal broken
        if broken:
            return
        # Ranks of a tensor-parallel engine write the same lines; the last of a position counts.
        line = f"{'refused' if position is None else position}\t{drawn}\n"
        try:
            # Not made again: what comes after it was read, nobody waits for.
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except FileNotFoundError:
            broken = True
        except OSError as error:
            broken = True
            with suppress(OSError):  # the reader must not take half of it for all
                path.unlink(missing_ok=True)
            logger.error("[s1-plugin] no trace is written: %s", error)

    record(-1, None)  # shows that forcing acted, even where nothing is ever replaced
    return record


def read_trace(trace: str, keep: bool = False) -> dict[int, int]:
    """End tokens drawn, by output position; the file is removed unless it is to be kept.

    Raises:
        RuntimeError: if the engine refused the request, or wrote nothing.
    """
    path = trace_folder() / trace
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RuntimeError(
            "the engine did not say what it forced: was it started with "
            f"logits_processors=[{PROCESSOR!r}]? If its workers run on other machines, set "
            "S1_TRACE_DIR to a folder that all of them share"
        ) from None
    if not keep:
        path.unlink()
    events: dict[int, int] = {}
    for position, drawn in (line.split("\t", 1) for line in lines):
        if position == "refused":
            raise RuntimeError(f"budget forcing refused a request: {drawn}")
        events.pop(int(position), None)
        if drawn != "None":
            events[int(position)] = int(drawn)
    return events


def forget(traces: Iterable[str]) -> None:
    """Removes traces that nobody will read."""
    for trace in traces:
        (trace_folder() / trace).unlink(missing_ok=True)


def response(
    tokens: Sequence[int],
    finish_reason: str | None,
    plan: Plan,
    events: dict[int, int],
    encoder: TextEncoder,
    ends_with_newline: Any,
    think_start: str,
) -> tuple[Response, Lane]:
    """The response in the output ``tokens`` of a request made with `sampling_params`, and the
    lane that has followed it (its state holds the draws).

    Raises:
        ForeignTokenError: if the tokens are not what forcing decided.
    """
    tokens = list(tokens)
    stopped = finish_reason == "stop"
    if stopped and tokens and tokens[-1] in plan.stop_ids:
        tokens.pop()
    lane = Lane(plan, ends_with_newline, events=events)
    lane.follow(tokens)
    made = Response.from_tokens(
        tokens,
        lane.state,
        decode=lambda ids: decode(encoder.tokenizer, ids),
        think_start=think_start,
        finished="stop" if stopped else "length",
    )
    if finish_reason not in ("stop", "length"):
        made = made.failed(f"vLLM ended the request: {finish_reason}")
    return made, lane
