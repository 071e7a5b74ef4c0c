"""The lengths of rows in tokens: of the data themselves, of a file, or as s1K's are known to be."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any


def lognormal(mean: float, sigma: float, rows: int) -> list[int]:
    """``rows`` lengths, rising, at even steps of a lognormal's quantiles, with this mean."""
    normal = NormalDist(0.0, sigma)
    raw = [math.exp(normal.inv_cdf((i + 0.5) / rows)) for i in range(rows)]
    scale = mean * rows / math.fsum(raw)
    return [max(1, round(scale * value)) for value in raw]


def spread(mean: float, limit: float, share: float) -> float:
    """The sigma of the narrowest lognormal with this mean of which ``share`` is over ``limit``."""
    # share = Phi((mu - ln limit) / sigma), mu = ln mean - sigma² / 2
    z, gap = NormalDist().inv_cdf(share), math.log(mean / limit)
    return math.sqrt(z * z + 2 * gap) - z


def of_file(path: Path) -> list[int]:
    """Lengths of a file: one number per line, or a JSON object of length to how many.

    Raises:
        ValueError: naming file, line and what is expected.
    """
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        try:
            table = json.loads(text)
            found = [_length(n) for n, rows in table.items() for _ in range(int(rows))]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f'{path}: no {{"length": rows, …}} of whole numbers over 0: {error}'
            ) from None
        where = "an entry"
    else:
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    found.append(_length(line))
                except ValueError:
                    raise ValueError(
                        f"{path}, line {number}: {line.strip()[:40]!r} is not a length in tokens, "
                        "a whole number over 0"
                    ) from None
        where = "a line"
    if not found:
        raise ValueError(f"{path}: {where} with a length over 0 is needed")
    return found


def _length(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is not over 0")
    return number


def of_config(cfg: Mapping[str, Any]) -> list[int]:
    """Lengths of the rows that a config trains on, tokenised as in training.

    Raises:
        ValueError: when tokenizer or data cannot be loaded here, with the reason.
    """
    from s1_plugin.config import parse
    from s1_plugin.doctor_config import as_trained, encoded, loaded
    from s1_plugin.encoding import TextEncoder
    from s1_plugin.records import BadRow, check_learnable
    from s1_plugin.traces import reader_for, source_of

    try:
        from axolotl.loaders import load_tokenizer
        from axolotl.utils.data.shared import datasets_with_name_generator
    except ImportError:
        raise ValueError("axolotl, which loads them, is not installed") from None

    settings = parse(cfg.get("s1"))
    found: list[int] = []
    with tempfile.TemporaryDirectory() as scratch:
        seen = as_trained(dict(cfg), settings, Path(scratch))
        try:
            encoder = TextEncoder(load_tokenizer(seen))
        except Exception as error:  # whatever the hub, the network or a reader raises
            raise ValueError(f"tokenizer {seen.tokenizer_config}: {_first(error)}") from None
        ours = [d for d in seen.datasets or [] if d.get("type") == "s1_plugin.traces"]
        for data in datasets_with_name_generator(ours):
            source = source_of(data)
            try:
                table = loaded(data, Path(scratch) / "cache")
            except Exception as error:  # the same
                raise ValueError(f"{source}: {_first(error)}") from None
            reader = reader_for(data, table.column_names, source)
            good = []
            for row in table:
                try:
                    record = reader.read(row)
                    check_learnable(record, record.answer)
                except BadRow:
                    continue  # `s1 doctor` lists them
                good.append(record)
            found += encoded(encoder, good, settings.format)
    if not found:
        raise ValueError("no data set of `type: s1_plugin.traces` with rows")
    return found


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
