"""Exact and near copies among the questions; the first of each in the order of rows stays.

Near copies: MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3) proposes pairs, and the exact Jaccard similarity of their
runs of 5 tokens decides. Questions whose numbers differ are different problems, however alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from s1_plugin.data.words import fine, numbers, plain, tokens, whole

#: Runs of this many tokens are compared.
SHINGLE = 5
#: A near copy shares this much (Jaccard).
THRESHOLD = 0.8
#: Of two that have all runs in common and are not equal: 1.0 is said of exact copies only.
NEAREST = 0.99
#: A pair at the threshold is proposed with probability 1 - (1 - 0.8^5)^20 = 0.9996.
BANDS, ROWS = 20, 5
_MIX = np.uint64(0x9E3779B97F4A7C15)


def _constants() -> tuple[np.ndarray, np.ndarray]:
    # From a hash, not from a generator: the same numbers in every version of numpy.
    raw = b"".join(
        hashlib.sha256(f"s1 minhash {i}".encode()).digest()[:16] for i in range(BANDS * ROWS)
    )
    values = np.frombuffer(raw, dtype="<u8").reshape(-1, 2).astype(np.uint64)
    return values[:, 0] | np.uint64(1), values[:, 1]


_A, _B = _constants()


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _shingles(ids: np.ndarray) -> np.ndarray:
    """64-bit hashes of the runs of `SHINGLE` tokens (one of all, if there are fewer)."""
    if len(ids) < SHINGLE:
        ids = np.concatenate([ids, np.zeros(SHINGLE - len(ids), np.uint64)])
    count = len(ids) - SHINGLE + 1
    out = np.zeros(count, np.uint64)
    for at in range(SHINGLE):
        out = (out ^ ids[at : at + count]) * _MIX
        out ^= out >> np.uint64(29)
    return out


def shingles(said: str) -> set[str]:
    """The runs of tokens of what `fine` gave (all of them in one, if there are fewer)."""
    words = tokens(said)
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def fingerprint(text: str) -> int:
    """64 bits of what the question says, whatever its case and spacing."""
    return _hash(whole(plain(text)))


def bands(texts: Sequence[str]) -> np.ndarray:
    """LSH keys of questions, shape [questions, BANDS], uint64: near copies share one or more.

    The numbers of a question are part of its keys, so that a thousand problems made from one
    template are never compared.
    """
    known: dict[str, int] = {}
    pieces, starts, figures, at = [], [], [], 0
    for text in texts:
        said, ids = fine(text), []
        figures.append(_hash(" ".join(numbers(said))))
        for word in tokens(said):
            found = known.get(word)
            if found is None:
                found = known[word] = _hash(word)
            ids.append(found)
        piece = _shingles(np.array(ids, np.uint64))
        pieces.append(piece)
        starts.append(at)
        at += len(piece)
    if not pieces:
        return np.zeros((0, BANDS), np.uint64)
    every, cuts = np.concatenate(pieces), np.array(starts)
    out = np.repeat(np.array(figures, np.uint64)[:, None], BANDS, axis=1)
    for band in range(BANDS):
        for row in range(band * ROWS, (band + 1) * ROWS):
            least = np.minimum.reduceat(every * _A[row] + _B[row], cuts)
            out[:, band] = (out[:, band] ^ least) * _MIX
            out[:, band] ^= out[:, band] >> np.uint64(31)
    return out


def copies(
    fingerprints: np.ndarray, keys: np.ndarray, text: Callable[[int], str]
) -> dict[int, tuple[int, float]]:
    """Rows that copy an earlier one that stays: ``{row: (earlier row, similarity)}``; 1.0 is exact.

    Args:
        fingerprints: uint64 [rows], of `fingerprint`.
        keys: uint64 [rows, BANDS], of `bands`.
        text: the question of a row; asked only for rows that might be copies.
    """
    found: dict[int, tuple[int, float]] = {}
    for group in _groups(fingerprints):
        # 64 bits can be equal by chance.
        firsts: dict[str, int] = {}
        for row in group:
            first = firsts.setdefault(whole(plain(text(row))), row)
            if first != row:
                found[row] = (first, 1.0)
    shared = np.zeros(keys.shape, bool)
    for band in range(keys.shape[1]):
        for group in _groups(keys[:, band]):
            shared[group, band] = True
    known: dict[int, tuple[set[str], list[str]]] = {}

    def seen(row: int) -> tuple[set[str], list[str]]:
        if row not in known:
            if len(known) >= 10_000:  # flat memory, whatever the number of candidates
                known.clear()
            said = fine(text(row))
            known[row] = shingles(said), numbers(said)
        return known[row]

    stay: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(shared.any(axis=1)).tolist():
        if row in found:
            continue
        places = [(band, int(keys[row, band])) for band in np.flatnonzero(shared[row]).tolist()]
        for other in sorted({other for place in places for other in stay.get(place, ())}):
            (mine, figures), (theirs, others) = seen(row), seen(other)
            alike = len(mine & theirs) / len(mine | theirs)
            # The key may be equal by chance where the numbers are not.
            if alike >= THRESHOLD and figures == others:
                found[row] = (other, min(alike, NEAREST))
                break
        else:
            for place in places:
                stay.setdefault(place, []).append(row)
    return found


def _groups(keys: np.ndarray) -> list[list[int]]:
    """Rows with the same key, two or more, each group in order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    groups: list[list[int]] = []
    for at in same.tolist():
        if groups and groups[-1][-1] == order[at]:
            groups[-1].append(int(order[at + 1]))
        else:
            groups.append([int(order[at]), int(order[at + 1])])
    return groups
