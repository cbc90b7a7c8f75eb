"""What is kept of an account: one record of fixed size, plain numbers, that sums up all its requests and can be merged.

An array of `STATE` holds many accounts. Everything is a sum, a maximum or the newest of something, so a state does not
depend on how requests were cut into batches (sums of tokens to rounding), and `merge` gives the state of several
accounts as one. Sums fade at two paces; hashes live in HyperLogLogs (Flajolet et al. 2007) and in direct-mapped
memories, where a slot keeps the newest tag that fell into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.columns import Columns, Hashes, mixed

DAY_S = 86_400.0
DAYS = 28  # of the ring
PACES = (2.0, 28.0)  # days in which sums fade to one half
FAST, SLOW = 0, 1
TOPICS = 16
STREAMS = 8  # sub-streams by skeleton
GRADE = 60.0  # tokens
BANDS, SLOTS = 4, 64

SUMS = (
    "requests", "input", "output", "leaked", "reasoning", "cached", "novelty", "novelty_known",
    "repeated", "repeated_answer", "single", "continued", "turns", "deep", "tools", "tool_results",
    "text", "system", "application", "elicits", "grades", "log_in", "log_out", "log_in2", "log_out2", "log_in_out",
    "log_known", "tiny", "long", "very_long", "hot", "cold", "temperature_set", "many", "choices", "logprobs",
    "logprob_tokens", "seeded", "structured", "steered", "capped", "cut", "stream", "failed", "limited", "named_user",
    "embeds", "same_topic", "gap_1", "gap_10", "gap_60", "gap_600", "gap_more", "night",
)  # fmt: skip
INDEX = {name: place for place, name in enumerate(SUMS)}
STREAM_SUMS = ("requests", "output", "leaked", "novelty", "single")
COUNTERS = {
    "items": 128, "conversations": 64, "users": 64, "subjects": 64, "skeletons": 32, "networks": 32, "seeds": 32,
}  # fmt: skip

STATE = np.dtype(
    [
        ("first", "<u4"),  # seconds since the epoch of the first and the newest request
        ("last", "<u4"),
        ("day", "<i4"),  # the newest day with requests
        ("total", "<f8"),  # requests since the first
        ("output", "<f8"),  # the teacher's tokens since the first
        ("leaked", "<f8"),  # tokens of novelty since the first
        ("last_topic", "u1"),
        ("exponent", "u1"),  # of `centre`
        ("today", "<f4", (3,)),  # requests, output, leaked
        ("ring", "<f2", (3, DAYS)),  # ln(1 + x) of the days before, at the place of day modulo 28
        ("ring_day", "<i2", (DAYS,)),  # which day that is, modulo 2^15
        ("sums", "<f4", (len(PACES), len(SUMS))),
        ("topics", "<f4", (len(PACES), TOPICS)),
        ("streams", "<f4", (STREAMS, len(STREAM_SUMS))),
        ("embedded", "<f4"),  # requests in `centre`
        ("centre", "<i2", (128,)),  # sum of unit embeddings × 64, divided by 2^exponent
        ("bands", "u1", (BANDS * SLOTS,)),
        ("talks", "u1", (SLOTS,)),
        *((name, "u1", (size,)) for name, size in COUNTERS.items()),
    ]
)
States = npt.NDArray[Any]

_PLANES = np.random.default_rng(20261124).normal(size=(128, 8)).astype(np.float32)  # subjects: 8 more than topics
_CELLS = np.random.default_rng(20261125).normal(size=(128, TOPICS)).astype(np.float32)
_GAPS = (1.0, 10.0, 60.0, 600.0)


def empty(count: int = 1) -> States:
    """Return the states of accounts that nothing is known of, shape (count,)."""
    made = np.zeros(count, STATE)
    made["day"] = -1
    made["ring_day"] = -1
    return made


def update(states: States, rows: Columns, places: npt.NDArray[np.int64], day: int) -> None:
    """Take requests of one day (since the epoch), in event time, into the states at `places`, shape (requests,)."""
    if not len(rows):
        return
    order = np.argsort(places, kind="stable")
    rows, places = rows.take(order), places[order]
    starts = np.flatnonzero(np.concatenate([[True], places[1:] != places[:-1]]))
    touched = places[starts]
    _begin_day(states, touched, day)
    topic, subject = _topics(rows)
    likeness, novelty = _likeness(states, rows, places)
    values = _values(states, rows, places, starts, topic, likeness, novelty)
    sums = np.add.reduceat(values, starts, axis=0)
    states["sums"][touched] += sums[:, None, :].astype(np.float32)
    chosen = [INDEX[name] for name in ("requests", "output", "leaked")]
    states["today"][touched] += sums[:, chosen].astype(np.float32)
    states["total"][touched] += sums[:, 0]
    states["output"][touched] += sums[:, INDEX["output"]]
    states["leaked"][touched] += sums[:, INDEX["leaked"]]
    _count(states, rows, places, subject)
    _add_topics(states, places, topic, rows.embedding_known)
    _add_streams(states, rows, places, values)
    _add_centre(states, rows, starts, touched)
    ends = np.append(starts[1:], len(places)) - 1
    seconds = rows.time.astype(np.uint32)
    states["first"][touched] = np.where(states["first"][touched] == 0, seconds[starts], states["first"][touched])
    states["last"][touched] = np.maximum(states["last"][touched], seconds[ends])
    states["last_topic"][touched] = topic[ends] + 1


def merge(states: States) -> States:
    """Return the state of several accounts as one, shape (1,)."""
    whole = states.copy()
    _fade(whole, np.arange(len(whole)), int(whole["day"].max(initial=-1)))
    merged = empty()
    active = whole[whole["total"] > 0]
    if not len(active):
        return merged
    one = merged[0]
    newest = int(np.argmax(active["last"]))
    one["first"], one["last"], one["day"] = active["first"].min(), active["last"].max(), active["day"].max()
    one["last_topic"] = active["last_topic"][newest]
    for name in ("total", "output", "leaked", "today", "sums", "topics", "streams", "embedded"):
        one[name] = active[name].sum(axis=0)
    for name in ("bands", "talks", *COUNTERS):
        one[name] = active[name].max(axis=0)
    _merge_rings(one, active)
    _put_centre(merged, np.zeros(1, np.int64), centre_sums(active).sum(axis=0)[None])
    return merged


def to_bytes(states: States) -> bytes:
    """Return states as bytes, `STATE.itemsize` each."""
    return states.tobytes()


def from_bytes(raw: bytes) -> States:
    """Return the states that `to_bytes` wrote; raises `ValueError` where the length does not fit."""
    return np.frombuffer(raw, STATE).copy()


def counted(states: States, name: str) -> npt.NDArray[np.float64]:
    """Return how many different `COUNTERS[name]` were seen (HyperLogLog, small range corrected), shape (accounts,)."""
    registers = states[name].astype(np.float64)
    size = registers.shape[1]
    raw = 0.7213 / (1 + 1.079 / size) * size * size / np.exp2(-registers).sum(axis=1)
    zeros = (registers == 0).sum(axis=1)
    linear = size * np.log(size / np.maximum(zeros, 1))
    return np.asarray(np.where((raw <= 2.5 * size) & (zeros > 0), linear, raw))


def daily(states: States) -> npt.NDArray[np.float64]:
    """Return requests, output and leaked tokens of the last 28 days, newest last, shape (accounts, 3, 28)."""
    back = np.arange(DAYS - 1, -1, -1)
    days = states["day"].astype(np.int64)[:, None] - back
    slots = days % DAYS
    valid = np.take_along_axis(states["ring_day"].astype(np.int64), slots, axis=1) == days % 2**15
    values = np.expm1(np.take_along_axis(states["ring"].astype(np.float64), slots[:, None, :], axis=2))
    found = np.where(valid[:, None, :], values, 0.0)
    found[:, :, -1] = states["today"]
    return np.asarray(found)


def centre_sums(states: States) -> npt.NDArray[np.float64]:
    """Return the sums of unit embeddings, shape (accounts, 128)."""
    return np.asarray(np.ldexp(states["centre"].astype(np.float64), states["exponent"][:, None].astype(int)) / 64.0)


def _begin_day(states: States, touched: npt.NDArray[np.int64], day: int) -> None:
    _fade(states, touched, day)
    states["day"][touched] = np.maximum(states["day"][touched], day)


def _fade(states: States, places: npt.NDArray[np.int64], day: int) -> None:
    """Bring states forward to a day: what was today's goes into the ring, and sums fade."""
    old = states["day"][places].astype(np.int64)
    later = places[(old >= 0) & (old < day)]
    if not len(later):
        return
    old = states["day"][later].astype(np.int64)
    slots = old % DAYS
    states["ring"][later, :, slots] = np.log1p(states["today"][later])
    states["ring_day"][later, slots] = old % 2**15
    states["today"][later] = 0.0
    for pace, half in enumerate(PACES):
        factor = np.exp2(-(day - old) / half).astype(np.float32)
        states["sums"][later, pace] *= factor[:, None]
        states["topics"][later, pace] *= factor[:, None]
    states["streams"][later] *= np.exp2(-(day - old) / PACES[SLOW]).astype(np.float32)[:, None, None]
    states["day"][later] = day


def _topics(rows: Columns) -> tuple[npt.NDArray[np.uint8], Hashes]:
    vectors = rows.embedding.astype(np.float32)
    topic = np.argmax(vectors @ _CELLS, axis=1).astype(np.uint8)
    signs = (vectors @ _PLANES > 0) @ (1 << np.arange(8))
    return topic, topic.astype(np.uint64) * np.uint64(256) + signs.astype(np.uint64)


def _likeness(
    states: States, rows: Columns, places: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the share of MinHash bands (two rows each) that the account's recent past has too, and what is new."""
    pairs = rows.minhash[:, : 2 * BANDS].astype(np.uint64).reshape(-1, BANDS, 2)
    hashed = mixed((pairs[:, :, 0] << np.uint64(32)) | pairs[:, :, 1])
    met = np.zeros((len(rows), BANDS), bool)
    for band in range(BANDS):
        met[:, band] = _meet(states, "bands", places, hashed[:, band], rows.minhash_known, band * SLOTS)
    likeness = met.mean(axis=1).astype(np.float32)
    return likeness, np.where(rows.minhash_known, 1 - likeness, np.nan).astype(np.float32)


def _meet(
    states: States, memory: str, places: npt.NDArray[np.int64], hashed: Hashes, known: npt.NDArray[np.bool_], first: int
) -> npt.NDArray[np.bool_]:
    """Return whether each hash's tag is what its slot keeps, requests before it in this batch included; keep it."""
    found = np.zeros(len(places), bool)
    chosen = np.flatnonzero(known)
    if not len(chosen):
        return found
    slots = (hashed[chosen] % np.uint64(SLOTS)).astype(np.int64)
    tags = ((hashed[chosen] >> np.uint64(40)) % np.uint64(255) + np.uint64(1)).astype(np.uint8)
    keys = places[chosen] * SLOTS + slots
    order = np.argsort(keys, kind="stable")
    keys, tags, slots, at = keys[order], tags[order], slots[order], places[chosen][order]
    begins = np.concatenate([[True], keys[1:] != keys[:-1]])
    before = np.concatenate([[0], tags[:-1]]).astype(np.uint8)
    before[begins] = states[memory][at[begins], first + slots[begins]]
    found[chosen[order]] = before == tags
    ends = np.append(begins[1:], True)
    states[memory][at[ends], first + slots[ends]] = tags[ends]
    return found


def _values(
    states: States, rows: Columns, places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64],
    topic: npt.NDArray[np.uint8], likeness: npt.NDArray[np.float32], novelty: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:  # fmt: skip
    answered = rows.answered
    output = np.where(answered, np.nan_to_num(rows.output), 0.0).astype(np.float64)
    given = np.nan_to_num(rows.input).astype(np.float64)
    ratio = output / np.maximum(given, 1.0)
    own = np.where(np.isnan(rows.input), 0.5, ratio**2 / (1 + ratio**2))
    repeated = rows.minhash_known & (likeness == 1)
    turns = np.nan_to_num(rows.turns, nan=1.0)
    talk = _meet(states, "talks", places, rows.conversation, (rows.conversation != 0), 0)
    continued = (talk & ~repeated) | rows.tool_results
    both = answered & (output > 0) & (given > 0)
    log_in, log_out = np.where(both, np.log1p(given), 0.0), np.where(both, np.log1p(output), 0.0)
    gaps, earlier = _gaps(states, rows, places, starts)
    previous = np.concatenate([[0], topic[:-1] + 1])
    previous[starts] = states["last_topic"][places[starts]]
    hour = (rows.time % DAY_S) / 3600.0
    # A system prompt of up to 40 characters ("You are a helpful assistant.") sets no task, one of 120 does.
    instructed = np.clip((np.nan_to_num(rows.system) - 70) / 80, 0, 1)
    hot = np.nan_to_num(rows.temperature, nan=1.0) > 0.6
    columns = {
        "requests": np.ones(len(rows)), "input": given, "output": output,
        "leaked": _leaked(rows, output, own, novelty), "reasoning": np.nan_to_num(rows.reasoning),
        "cached": np.nan_to_num(rows.cached), "novelty": np.nan_to_num(novelty),
        "novelty_known": rows.minhash_known, "repeated": repeated, "repeated_answer": repeated * output,
        "single": (turns <= 1) & ~continued, "continued": continued, "turns": np.log2(np.maximum(turns, 1)),
        "deep": turns >= 3, "tools": rows.tools,
        "tool_results": rows.tool_results, "text": rows.has_text, "system": np.nan_to_num(rows.system) > 0,
        "application": np.maximum(instructed, rows.tools | rows.structured), "elicits": rows.elicits,
        "grades": rows.grades, "log_in": log_in, "log_out": log_out, "log_in2": log_in**2, "log_out2": log_out**2,
        "log_in_out": log_in * log_out, "log_known": both, "tiny": answered & (output <= 16), "long": output > 200,
        "very_long": output > 600, "hot": hot, "cold": np.nan_to_num(rows.temperature, nan=1.0) < 0.15,
        "temperature_set": ~np.isnan(rows.temperature), "many": rows.choices > 1, "choices": rows.choices,
        "logprobs": rows.logprobs > 0, "logprob_tokens": np.log1p(rows.logprobs * output), "seeded": rows.seed > 0,
        "structured": rows.structured, "steered": rows.steered, "capped": ~np.isnan(rows.max_tokens),
        "cut": rows.cut, "stream": rows.stream, "failed": rows.failed, "limited": rows.limited,
        "named_user": rows.user > 0, "embeds": rows.embeds, "same_topic": previous == topic + 1,
        **{name: earlier & (gaps == place) for place, name in enumerate(SUMS[INDEX["gap_1"] : INDEX["night"]])},
        "night": hour < 6,
    }  # fmt: skip
    values = np.empty((len(rows), len(SUMS)))
    for name, place in INDEX.items():
        values[:, place] = columns[name]
    return values


def _leaked(
    rows: Columns, output: npt.NDArray[np.float64], own: npt.NDArray[np.float64], novelty: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return what a request drew off that neither its prompt nor earlier answers had, in tokens' worth.

    A further draw of a known prompt (another seed, several choices) is new; token probabilities are worth as many
    tokens as they name; a grade of something new is worth an answer (`GRADE`), however short it is.
    """
    fresh = np.nan_to_num(novelty, nan=0.8)
    redrawn = (rows.choices > 1) | ((rows.seed > 0) & (np.nan_to_num(rows.temperature, nan=1.0) > 0.6))
    fresh = np.where(redrawn, 1.0, fresh)
    drawn = output * (1.0 + rows.logprobs) * np.where(rows.logprobs > 0, 1.0, own)
    return np.asarray(fresh * (drawn + GRADE * (rows.grades & (output > 0) & (output < 64))))


def _gaps(
    states: States, rows: Columns, places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    whole = np.floor(rows.time)  # as `last` is kept
    before = np.concatenate([[0.0], whole[:-1]])
    before[starts] = states["last"][places[starts]]
    return np.searchsorted(_GAPS, whole - before, side="right"), before > 0


def _count(states: States, rows: Columns, places: npt.NDArray[np.int64], subject: Hashes) -> None:
    minima = rows.minhash.astype(np.uint64)
    item = mixed((minima[:, 0] << np.uint64(32)) ^ (minima[:, 1] << np.uint64(16)) ^ minima[:, 2] ^ minima[:, 7])
    seen = {
        "items": (item, rows.minhash_known), "conversations": (rows.conversation, rows.conversation > 0),
        "users": (rows.user, rows.user > 0), "subjects": (subject, rows.embedding_known),
        "skeletons": (rows.skeleton, rows.skeleton > 0), "networks": (rows.network, rows.network > 0),
        "seeds": (rows.seed, rows.seed > 0),
    }  # fmt: skip
    for name, (hashed, known) in seen.items():
        chosen = np.flatnonzero(known)
        if len(chosen):
            spread = mixed(hashed[chosen] + np.uint64(1))
            register = (spread % np.uint64(COUNTERS[name])).astype(np.int64)
            rest = (spread >> np.uint64(16)) & np.uint64(2**40 - 1)
            rank = (41 - np.frexp(rest.astype(np.float64))[1]).astype(np.uint8)  # leading zeros and one
            np.maximum.at(states[name], (places[chosen], register), rank)


def _add_topics(
    states: States, places: npt.NDArray[np.int64], topic: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_]
) -> None:
    for pace in range(len(PACES)):
        np.add.at(states["topics"][:, pace], (places[known], topic[known].astype(np.int64)), np.float32(1))


def _add_streams(states: States, rows: Columns, places: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
    stream = (mixed(rows.skeleton) % np.uint64(STREAMS)).astype(np.int64)
    keys = places * STREAMS + stream
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], keys[order][1:] != keys[order][:-1]]))
    chosen = [INDEX[name] for name in STREAM_SUMS]
    sums = np.add.reduceat(values[order][:, chosen], starts, axis=0)
    at = order[starts]
    states["streams"][places[at], stream[at]] += sums.astype(np.float32)


def _add_centre(states: States, rows: Columns, starts: npt.NDArray[np.int64], touched: npt.NDArray[np.int64]) -> None:
    vectors = rows.embedding.astype(np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))
    units = np.where(rows.embedding_known[:, None], np.rint(vectors * (np.float32(64) / lengths)), 0)
    sums = np.add.reduceat(units.astype(np.float64), starts, axis=0) / 64.0
    states["embedded"][touched] += np.add.reduceat(rows.embedding_known.astype(np.float32), starts)
    _put_centre(states, touched, centre_sums(states[touched]) + sums)


def _put_centre(states: States, places: npt.NDArray[np.int64], sums: npt.NDArray[np.float64]) -> None:
    scaled = np.rint(sums * 64.0)
    largest = np.abs(scaled).max(axis=1)
    exponent = np.maximum(states["exponent"][places], np.maximum(0, np.frexp(largest)[1] - 15)).astype(np.uint8)
    states["centre"][places] = np.clip(np.rint(np.ldexp(scaled, -exponent[:, None].astype(int))), -32767, 32767)
    states["exponent"][places] = exponent


def _merge_rings(one: Any, active: States) -> None:
    total = daily(active).sum(axis=0)
    day = int(one["day"])
    for back in range(1, DAYS):
        slot = (day - back) % DAYS
        one["ring"][:, slot] = np.log1p(total[:, DAYS - 1 - back])
        one["ring_day"][slot] = (day - back) % 2**15
    one["today"] = total[:, -1]


def stacked(states: Sequence[States]) -> States:
    """Return states of shape (1,) or more, one after the other."""
    return np.concatenate(list(states)) if states else empty(0)
