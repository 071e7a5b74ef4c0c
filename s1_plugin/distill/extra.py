"""What ``--extra``, which is in every row and in the data card, may not hold: what an option says,
and secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from s1_plugin.console import printable
from s1_plugin.distill.failures import SECRET

#: What says it instead: the rows would tell of another request.
_OWNED = {
    "model": "--teacher",
    **dict.fromkeys(("messages", "prompt", "prompt_embeds"), "QUESTIONS"),
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "--max-tokens"),
    **{name: "--" + name.replace("_", "-") for name in ("temperature", "top_p", "seed")},
    "n": "--samples",
    **dict.fromkeys(("api_key", "authorization", "headers", "extra_headers"), "--key-env"),
    **dict.fromkeys(("stream", "stream_options"), ""),
}
#: Names of secrets, in words that `_` parts: these anywhere, or those at the end (`token_ids` and
#: `max_tokens` are none).
_NAMES = re.compile(
    r"(^|_)(secrets?|passwords?|passwd|passphrase|credentials?|authorization|auth|bearer)(_|$)"
    r"|(^|_)(\w*(api|access|auth|secret|private))?(keys?|token)$"
)
#: Keys as hosts make them: OpenAI's and its like's, Hugging Face's, Google's, Groq's, xAI's,
#: NVIDIA's, GitHub's; what stands in a header; and JSON web tokens.
_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(sk-[\w-]{8}|hf_\w{8}|AIza[\w-]{8}|gsk_\w{8}|xai-\w{8}|nvapi-\w{8}"
    r"|gh[pousr]_\w{8}|eyJ[\w-]{8,}\.|Bearer\s+\S)"
)
_REMEDY = (
    "it would be in every row and in the data card; leave it out, and name the environment "
    "variable of the key with --key-env"
)


def check_extra(extra: Mapping[str, Any], keys: Collection[str]) -> None:
    """Raises `ValueError` for what ``--extra`` may not hold, at any depth where it is a secret.

    Args:
        keys: those that are known; a short one counts where it is the whole text.
    """
    texts = list(_texts(extra))
    for text in texts:
        known = any(key and (key == text or (len(key) >= SECRET and key in text)) for key in keys)
        if known or _KEYS.search(text):
            raise ValueError(f"--extra holds an API key: {_REMEDY}")
    for name in extra:
        if name.lower() in _OWNED:
            instead = _OWNED[name.lower()]
            raise ValueError(
                f"--extra holds {name!r}, "
                + (f"which {instead} says: use that" if instead else "which is always the same")
                + "; leave it out of --extra"
            )
    for place, value in _named(extra):
        if speaks_of_secrets(place[-1]) and any(_texts(value)):
            where = printable(".".join(place))[:100]
            raise ValueError(f"--extra holds {where!r}, by its name a secret: {_REMEDY}")


def speaks_of_secrets(name: str) -> bool:
    """Whether ``name``, in any spelling, is one under which secrets stand."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return bool(_NAMES.search(re.sub(r"\W+", "_", words).lower()))


def _named(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All values in a JSON value that have a name, with the names that lead there."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield (*at, name), inner
            yield from _named(inner, (*at, name))
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, at)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (name, *_texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
