"""Budget forcing on the device: one Triton program per request and step, no word with the host.

An engine that runs ahead of its own results must not wait for us, so what `state.Thinking` decides
on the host is decided here beside the logits; tests hold the two together, token for token. A row
is read once (is an end token the best one, or may it be drawn?) and written once (where a token is
forced); only where an end token may really be drawn is it read more often. Nothing is ever
sorted.

The tables that the kernel reads are laid out by `board`.
"""

from __future__ import annotations

import triton
import triton.language as tl

# -- what a request asks for: columns of a program row, token ids behind them ----------------------

MODE = tl.constexpr(0)  # one of the four below
PROMPT = tl.constexpr(1)  # tokens of the prompt
PREFILL = tl.constexpr(2)  # tokens there when the request joined; rows before them are thrown away
CAP = tl.constexpr(3)
WAITS = tl.constexpr(4)
LEAST = tl.constexpr(5)  # thinking tokens before which no end stands
STRINGS = tl.constexpr(6)  # number of Wait strings
TABLE = tl.constexpr(7)  # where the (start, stop) of each Wait string stand
N_ENDS = tl.constexpr(8)
PREFIX = tl.constexpr(9)  # length of what is forced before the thinking
NATURAL = tl.constexpr(10)  # start of what follows a natural end
NATURAL_STOP = tl.constexpr(11)
CLOSE = tl.constexpr(12)  # start of what follows the cap: the newline, ...
CLOSE_PLAIN = tl.constexpr(13)  # ... and where that is there already
CLOSE_STOP = tl.constexpr(14)
REFUSED = tl.constexpr(15)  # the token that ends a request which cannot be honoured
TOP_K = tl.constexpr(16)  # 0: off
BODY = tl.constexpr(17)  # end tokens, then the prefix, then the rest

IDLE = tl.constexpr(0)  # no request of ours
FORCED = tl.constexpr(1)
ENDING = tl.constexpr(2)  # cannot be honoured
MASKED = tl.constexpr(3)  # only ids that do not exist are kept from being drawn

# -- where a request stands: columns of a state row ----------------------------------------------

QUEUE = tl.constexpr(0)  # next token due, as a column of the program row
QUEUE_STOP = tl.constexpr(1)
WAITED = tl.constexpr(2)
ENDED = tl.constexpr(3)
AFTER_WAIT = tl.constexpr(4)
WAITING = tl.constexpr(5)
NEWLINE = tl.constexpr(6)  # the last token ends with a newline
STATE = tl.constexpr(7)

# -- what the host hears: columns of a mark row ----------------------------------------------------

KNOWN = tl.constexpr(0)  # output tokens before this state
EVENT = tl.constexpr(1)  # the end token drawn here, or:
MARKS = tl.constexpr(2)

NOTHING = tl.constexpr(-1)
FOREIGN = tl.constexpr(-2)  # a token stands where forcing had put another one

#: Draws before the cut is searched for: seldom needed, since what is cut has little weight.
TRIES = tl.constexpr(8)

_LOWEST = tl.constexpr(-3.0e38)
_SLACK = tl.constexpr(1e-4)  # the engine's own rounding must not keep an end that we let go


@triton.jit
def _natural_end(p, thinking, queue, stop, waited, ended, after, waiting, newline):
    """`Thinking._natural_end`: an end was drawn after ``thinking`` tokens."""
    index = waited % tl.load(p + STRINGS)
    table = tl.load(p + TABLE)
    wait = tl.load(p + table + 2 * index)
    wait_stop = tl.load(p + table + 2 * index + 1)
    if (waited >= tl.load(p + WAITS)) & (thinking >= tl.load(p + LEAST)):
        queue = tl.load(p + NATURAL)
        stop = tl.load(p + NATURAL_STOP)
        ended = 1
    elif thinking + wait_stop - wait > tl.load(p + CAP):
        queue = tl.where(newline == 1, tl.load(p + CLOSE_PLAIN), tl.load(p + CLOSE))
        stop = tl.load(p + CLOSE_STOP)
        ended = 1
    else:
        queue = wait
        stop = wait_stop
        waited += 1
        waiting = (wait_stop > wait).to(tl.int32)
        after = 1 - waiting
    return queue, stop, waited, ended, after, waiting


@triton.jit
def _is_end(p, token):
    found = tl.full([], 0, tl.int32)
    for n in range(tl.load(p + N_ENDS)):
        found = tl.where(tl.load(p + BODY + n) == token, 1, found)
    return found


@triton.jit
def _push(p, newlines, token, known, event, queue, stop, waited, ended, after, waiting, newline):
    """`Thinking.push`: ``token`` stands at ``known``, where ``event`` was drawn.

    The last result is 1 if forcing had put another token there."""
    prefix = tl.load(p + PREFIX)
    foreign = tl.full([], 0, tl.int32)
    if known < prefix:
        due = tl.load(p + BODY + tl.load(p + N_ENDS) + known)
        foreign = tl.where(due == token, foreign, 1)
        known += 1
    else:
        watching = (ended == 0) & (queue >= stop)
        if watching & ((event >= 0) | (_is_end(p, token) == 1)):
            queue, stop, waited, ended, after, waiting = _natural_end(
                p, known - prefix, queue, stop, waited, ended, after, waiting, newline
            )
        if queue < stop:
            foreign = tl.where(tl.load(p + queue) == token, foreign, 1)
            queue += 1
        known += 1
        newline = tl.load(newlines + tl.maximum(token, 0)).to(tl.int32)
        if ended == 0:
            empty = (queue >= stop).to(tl.int32)
            after = waiting * empty
            waiting = waiting * (1 - empty)
            if (empty == 1) & (known - prefix >= tl.load(p + CAP)):
                queue = tl.where(newline == 1, tl.load(p + CLOSE_PLAIN), tl.load(p + CLOSE))
                stop = tl.load(p + CLOSE_STOP)
                ended = 1
    return known, queue, stop, waited, ended, after, waiting, newline, foreign


# -- drawing -------------------------------------------------------------------------------------


@triton.jit
def _best(x, size, BLOCK: tl.constexpr):
    """Index of the greatest value; the first of several."""
    lane = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], _LOWEST, tl.float32)
    where = tl.zeros([BLOCK], tl.int32)
    for start in range(0, size, BLOCK):
        at = start + lane
        v = tl.load(x + at, mask=at < size, other=float("-inf"))
        better = v > best
        best = tl.where(better, v, best)
        where = tl.where(better, at, where)
    top = tl.max(best, axis=0)
    return tl.min(tl.where(best == top, where, 0x7FFFFFFF), axis=0)


@triton.jit
def _end_may_survive(p, x, size, temperature, top_p, min_p, BLOCK: tl.constexpr):
    """(0 only if temperature, min-p, top-k and top-p surely cut every end token, greatest value).

    One pass. With top-k the mass that top-p looks at is smaller than the sum taken here, so an end
    may be kept in doubt that is not; the draw decides it.
    """
    end = tl.full([], float("-inf"), tl.float32)
    for n in range(tl.load(p + N_ENDS)):
        end = tl.maximum(end, tl.load(x + tl.load(p + BODY + n)))
    lane = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], _LOWEST, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    above = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.int32)
    for start in range(0, size, BLOCK):
        at = start + lane
        v = tl.load(x + at, mask=at < size, other=float("-inf"))
        now = tl.maximum(best, v)
        shrink = tl.exp((best - now) / temperature)
        weight = tl.exp((v - now) / temperature)
        over = v > end
        total = total * shrink + weight
        above = above * shrink + tl.where(over, weight, 0.0)
        count += over.to(tl.int32)
        best = now
    top = tl.max(best, axis=0)
    shrink = tl.exp((best - top) / temperature)
    all_mass = tl.sum(total * shrink, axis=0)
    mass = tl.sum(above * shrink, axis=0)
    k = tl.load(p + TOP_K)
    alive = end > float("-inf")
    alive = alive & ((min_p <= 0.0) | ((end - top) / temperature >= tl.log(min_p) - _SLACK))
    alive = alive & ((k == 0) | (tl.sum(count, axis=0) < k))
    alive = alive & ((top_p >= 1.0) | (mass < (top_p + _SLACK) * all_mass))
    return alive.to(tl.int32), top


@triton.jit
def _ordered(v):
    """Integers that are ordered as the float32 values are."""
    bits = v.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def _count(x, size, least, BLOCK: tl.constexpr):
    """How many values are ``least`` (ordered) or more."""
    lane = tl.arange(0, BLOCK)
    count = tl.zeros([BLOCK], tl.int32)
    for start in range(0, size, BLOCK):
        at = start + lane
        v = tl.load(x + at, mask=at < size, other=float("-inf"))
        count += ((_ordered(v) >= least) & (at < size)).to(tl.int32)
    return tl.sum(count, axis=0)


@triton.jit
def _greatest(x, size, k, highest, BLOCK: tl.constexpr):
    """The k-th greatest value (ordered).

    The k-th greatest of the lanes' own maxima is no greater, and close to it where k is small
    beside the number of lanes; from there values are left out one by one. Else the range is halved.
    """
    low = tl.full([], -0x7F800001, tl.int64)  # minus infinity, ordered
    high = highest.to(tl.int64)
    left = tl.full([], 0, tl.int32)
    if k * 16 <= BLOCK:
        left += 16
        lane = tl.arange(0, BLOCK)
        best = tl.full([BLOCK], -0x7F800001, tl.int32)
        for start in range(0, size, BLOCK):
            at = start + lane
            v = tl.load(x + at, mask=at < size, other=float("-inf"))
            best = tl.maximum(best, _ordered(v))
        while low < high:
            middle = low + (high - low + 1) // 2
            if tl.sum((best >= middle).to(tl.int32), axis=0) >= k:
                low = middle
            else:
                high = middle - 1
        high = highest.to(tl.int64)
    while left > 0:
        lane = tl.arange(0, BLOCK)
        count = tl.zeros([BLOCK], tl.int32)
        next_ = tl.full([BLOCK], 0x7FFFFFFF, tl.int32)
        for start in range(0, size, BLOCK):
            at = start + lane
            v = tl.load(x + at, mask=at < size, other=float("-inf"))
            over = _ordered(v) > low
            count += over.to(tl.int32)
            next_ = tl.where(over, tl.minimum(next_, _ordered(v)), next_)
        if tl.sum(count, axis=0) >= k:
            low = tl.min(next_, axis=0).to(tl.int64)
            left -= 1
        else:
            high = low
            left = 0
    while low < high:
        middle = low + (high - low + 1) // 2
        if _count(x, size, middle, BLOCK) >= k:
            low = middle
        else:
            high = middle - 1
    return low.to(tl.int32)


@triton.jit
def _mass(x, size, least, top, temperature, BLOCK: tl.constexpr):
    """Sum of the weights whose value is ``least`` (ordered) or more."""
    lane = tl.arange(0, BLOCK)
    mass = tl.zeros([BLOCK], tl.float32)
    for start in range(0, size, BLOCK):
        at = start + lane
        v = tl.load(x + at, mask=at < size, other=float("-inf"))
        weight = tl.exp((v - top) / temperature)
        mass += tl.where(_ordered(v) >= least, weight, 0.0)
    return tl.sum(mass, axis=0)


@triton.jit
def _uniform(key, position, attempt):
    """A number in [0, 1) that depends on nothing but its arguments (53 random bits).

    SplitMix64 (Steele, Lea, Flood 2014, https://doi.org/10.1145/2714064.2660195) at a position.
    """
    at = position.to(tl.uint64) + (attempt.to(tl.uint64) << 32)
    z = key.to(tl.uint64) + (at + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    return (z >> 11).to(tl.int64).to(tl.float64) * 1.1102230246251565e-16  # 2**-53


@triton.jit
def _at(x, size, least, top, temperature, target, BLOCK: tl.constexpr):
    """The token where the cumulative weight of values ``least`` (ordered) or more passes
    ``target``."""
    lane = tl.arange(0, BLOCK)
    before = tl.full([], 0.0, tl.float64)
    found = tl.full([], -1, tl.int32)
    last = tl.full([], 0, tl.int32)
    start = tl.full([], 0, tl.int32)
    while (start < size) & (found < 0):
        at = start + lane
        v = tl.load(x + at, mask=at < size, other=float("-inf"))
        weight = tl.exp((v - top) / temperature)
        weight = tl.where(_ordered(v) >= least, weight, 0.0)
        here = tl.sum(weight, axis=0)
        if before + here > target:
            hit = (tl.cumsum(weight, axis=0) > (target - before).to(tl.float32)) & (weight > 0.0)
            first = tl.min(tl.where(hit, at, 0x7FFFFFFF), axis=0)
            found = tl.where(first < 0x7FFFFFFF, first, found)
        last = tl.maximum(last, tl.max(tl.where(weight > 0.0, at, 0), axis=0))
        before += here
        start += BLOCK
    return tl.where(found < 0, last, found)  # rounding may point past the last one


@triton.jit
def _draw(p, x, size, top, key, position, temperature, top_p, min_p, BLOCK: tl.constexpr):
    """A token by the law that min-p, top-k and top-p, in the engine's order, leave.

    Drawn among all whose value min-p keeps, and again if top-k or top-p cut what was drawn: that is
    the same law, and what they cut is little as a rule. Where it is much, the cut is found first.
    """
    highest = _ordered(top)
    least = tl.full([], -0x7F800001, tl.int32)  # minus infinity, ordered
    if min_p > 0.0:
        least = _ordered(top + temperature * tl.log(min_p))
    k = tl.load(p + TOP_K)
    lane = tl.arange(0, BLOCK)
    mass = _mass(x, size, least, top, temperature, BLOCK)  # of what can be drawn
    kept = mass  # of what top-k leaves, once that is known
    searched = tl.full([], 0, tl.int32)
    token = tl.full([], -1, tl.int32)
    attempt = tl.full([], 0, tl.int32)
    while token < 0:
        target = _uniform(key, position, attempt) * mass
        drawn = _at(x, size, least, top, temperature, target, BLOCK)
        value = tl.load(x + drawn)
        count = tl.zeros([BLOCK], tl.int32)
        above = tl.zeros([BLOCK], tl.float32)
        if (k > 0) | (top_p < 1.0):
            for start in range(0, size, BLOCK):
                at = start + lane
                v = tl.load(x + at, mask=at < size, other=float("-inf"))
                over = v > value
                count += over.to(tl.int32)
                above += tl.where(over, tl.exp((v - top) / temperature), 0.0)
        before = tl.sum(above, axis=0)
        good = (k == 0) | (tl.sum(count, axis=0) < k)
        # With top-k, top-p looks at what top-k leaves: no less than what is above, and the token.
        sure = before < top_p * (before + tl.exp((value - top) / temperature))
        if good & (top_p < 1.0) & (sure == 0):
            if (k > 0) & (searched == 0) & (before < top_p * mass):
                cut = tl.maximum(least, _greatest(x, size, k, highest, BLOCK))
                kept = _mass(x, size, cut, top, temperature, BLOCK)
                searched = 1
            good = before < top_p * kept
        if good:
            token = drawn
        attempt += 1
        if (attempt == TRIES) & (token < 0):
            if k > 0:
                least = tl.maximum(least, _greatest(x, size, k, highest, BLOCK))
                kept = _mass(x, size, least, top, temperature, BLOCK)
            if top_p < 1.0:
                # A value stands if less than the share is above it.
                low, high = least.to(tl.int64), highest.to(tl.int64)
                while low < high:
                    middle = low + (high - low) // 2
                    over = _mass(x, size, middle + 1, top, temperature, BLOCK)
                    if over < top_p * kept:
                        high = middle
                    else:
                        low = middle + 1
                least = low.to(tl.int32)
            mass = _mass(x, size, least, top, temperature, BLOCK)
            token = _at(
                x, size, least, top, temperature, _uniform(key, position, attempt) * mass, BLOCK
            )
    return token


# -- writing -------------------------------------------------------------------------------------


@triton.jit
def _only(x, width, token, BLOCK: tl.constexpr):
    """All logits but one to minus infinity."""
    lane = tl.arange(0, BLOCK)
    for start in range(0, width, BLOCK):
        at = start + lane
        tl.store(x + at, tl.where(at == token, 0.0, float("-inf")), mask=at < width)


@triton.jit
def _ban_ends(p, x):
    for n in range(tl.load(p + N_ENDS)):
        tl.store(x + tl.load(p + BODY + n), float("-inf"))


@triton.jit
def _ban_unknown(x, size, width, BLOCK: tl.constexpr):
    """Ids from ``size`` on do not exist in the tokenizer."""
    lane = tl.arange(0, BLOCK)
    for start in range(size, width, BLOCK):
        at = start + lane
        tl.store(x + at, float("-inf"), mask=at < width)


# Batches come in all sizes, and slices of them at all addresses: one compilation serves them all.
@triton.jit(
    do_not_specialize=["n_rows", "program_width"],
    do_not_specialize_on_alignment=["rows", "slots", "offsets", "positions", "fed"],
)
def step(
    logits,  # (rows of the engine, width) float32, changed in place
    stride,
    rows,  # row of ``logits``, for each row that is looked at
    slots,
    offsets,  # 0, or how many draft tokens of the same request stand before
    positions,  # position of the token that was fed
    fed,  # that token
    n_rows,
    programs,  # (slots, program_width) int32
    program_width,
    warpers,  # (slots, 3) float32: temperature (0: greedy), top-p, min-p
    keys,  # (slots,) int64: random streams
    states,  # (slots, HISTORY, STATE) int32
    marks,  # (slots, HISTORY, MARKS) int32
    newlines,  # (width,) uint8: does the text of a token end with a newline?
    size,  # ids that the tokenizer knows
    width,
    HISTORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One step of every request; the rows of a request stand together and are taken in order."""
    row = tl.program_id(0)
    slot = tl.load(slots + row).to(tl.int64)
    if (slot < 0) | (tl.load(offsets + row) != 0):
        return
    p = programs + slot * program_width
    mode = tl.load(p + MODE)
    if mode == IDLE:
        return
    if tl.load(positions + row) + 1 < tl.load(p + PREFILL):
        return  # a chunk of the prompt: what is drawn here is thrown away
    prompt = tl.load(p + PROMPT)
    temperature = tl.load(warpers + slot * 3)
    top_p = tl.load(warpers + slot * 3 + 1)
    min_p = tl.load(warpers + slot * 3 + 2)
    key = tl.load(keys + slot)
    history = states + slot * HISTORY * STATE
    marked = marks + slot * HISTORY * MARKS
    prefix = tl.load(p + PREFIX)

    # The state before the last token: the one kept for that position at the last step. The same
    # position again: the engine has thrown away what it drew.
    position = (tl.load(positions + row) + 1 - prompt).to(tl.int32)
    behind = position - tl.load(marked + KNOWN)
    lost = (behind < 0) | (behind > HISTORY)
    index = tl.where(lost, 0, tl.maximum(behind - 1, 0))
    s = history + index * STATE
    known = tl.load(marked + index * MARKS + KNOWN)
    event = tl.load(marked + index * MARKS + EVENT)
    queue = tl.load(s + QUEUE)
    stop = tl.load(s + QUEUE_STOP)
    waited = tl.load(s + WAITED)
    ended = tl.load(s + ENDED)
    after = tl.load(s + AFTER_WAIT)
    waiting = tl.load(s + WAITING)
    newline = tl.load(s + NEWLINE)
    foreign = ((mode == FORCED) & ((event == FOREIGN) | lost)).to(tl.int32)

    local = tl.full([], 0, tl.int32)
    while local >= 0:
        token = tl.load(fed + row).to(tl.int32)
        if (mode == FORCED) & ((local > 0) | (behind > 0)):
            known, queue, stop, waited, ended, after, waiting, newline, odd = _push(
                p, newlines, token, known, event, queue, stop, waited, ended, after, waiting,
                newline,
            )  # fmt: skip
            # A draft that is not what stands there will be rejected; it is no fault.
            foreign = tl.where(local == 0, tl.maximum(foreign, odd), foreign)
        event = tl.full([], NOTHING, tl.int32)
        x = logits + tl.load(rows + row).to(tl.int64) * stride
        only = tl.full([], -1, tl.int32)
        ban = tl.full([], 0, tl.int32)
        if (mode == ENDING) | (foreign == 1):
            only = tl.load(p + REFUSED)
            event = tl.full([], FOREIGN, tl.int32)
        elif mode == FORCED:
            if known < prefix:
                only = tl.load(p + BODY + tl.load(p + N_ENDS) + known)
            elif queue < stop:
                only = tl.load(p + queue)
            elif ended == 0:
                if after == 1:
                    ban = 1
                else:
                    drawn = tl.full([], -1, tl.int32)
                    if temperature == 0.0:
                        drawn = _best(x, size, BLOCK)
                    else:
                        alive, top = _end_may_survive(p, x, size, temperature, top_p, min_p, BLOCK)
                        if alive == 1:
                            drawn = _draw(
                                p, x, size, top, key, known, temperature, top_p, min_p, BLOCK
                            )
                    if _is_end(p, drawn) == 1:
                        event = drawn
                        next_, stop_, _w, _e, _a, _ing = _natural_end(
                            p, known - prefix, queue, stop, waited, ended, after, waiting, newline
                        )
                        if next_ < stop_:
                            only = tl.load(p + next_)
                        else:
                            ban = 1  # an empty Wait: drawn again, without the ends
                    elif temperature == 0.0:
                        ban = 1  # an end that ties with the best token must not win either
                    else:
                        only = drawn
        tl.debug_barrier()  # every warp has read the history before one writes to it
        kept = history + local * STATE
        tl.store(marked + local * MARKS + KNOWN, known)
        tl.store(marked + local * MARKS + EVENT, event)
        tl.store(kept + QUEUE, queue)
        tl.store(kept + QUEUE_STOP, stop)
        tl.store(kept + WAITED, waited)
        tl.store(kept + ENDED, ended)
        tl.store(kept + AFTER_WAIT, after)
        tl.store(kept + WAITING, waiting)
        tl.store(kept + NEWLINE, newline)
        if only >= 0:
            _only(x, width, only, BLOCK)
        else:
            _ban_unknown(x, size, width, BLOCK)
            if ban == 1:
                _ban_ends(p, x)
        row += 1
        local += 1
        more = tl.full([], 0, tl.int32)
        if (row < n_rows) & (local < HISTORY):
            more = ((tl.load(slots + row) == slot) & (tl.load(offsets + row) == local)).to(tl.int32)
        if more == 0:
            for n in range(local, HISTORY):  # what an earlier, longer step left
                tl.store(marked + n * MARKS + KNOWN, -1)
                tl.store(marked + n * MARKS + EVENT, NOTHING)
            local = -1
