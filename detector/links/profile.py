"""A link profile of each account: what it could share with others, in about 200 bytes beside its state.

An array of `LINK` holds many accounts, at the places of their states (`detector.sketch`), which hold the rest of what
links are made from: the mean embedding, the days and the volumes. Sets of hashes are kept as their smallest members
(bottom-k sketches: Cohen and Kaplan, PODC 2007): accounts that draw from one set keep the same ones, so that the
overlap of sketches estimates the overlap of sets. Batches may be cut in any way, and profiles merged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.columns import Columns, mixed
from detector.sketch import DAY_S

EMPTY = np.uint32(0xFFFFFFFF)  # stands for no value; no hash is it
SLOT_S = 600.0  # seconds of a slot of synchrony
SETTLED_DAYS = 3.0  # an account as old as this moves to another model; a younger one only begins with it
# The sketches of an account and how many hashes each keeps.
SKETCHES = {"skeleton": 6, "form": 6, "software": 3, "network": 6, "model": 4, "prompt": 16, "slot": 8}
REGISTERED = ("payment", "signup_network", "created")
LINK = np.dtype(
    [
        ("first", "<u4"),  # seconds since the epoch of the first request
        ("pivot_model", "<u4"),  # the newest model that the account moved to, and the day on which it did
        ("pivot_day", "<u4"),
        ("payment", "<u4"),
        ("signup_network", "<u4"),
        ("created", "<u4"),  # seconds since the epoch
        *((name, "<u4", (size,)) for name, size in SKETCHES.items()),
    ]
)
Links = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
_ODD = np.frombuffer(hashlib.shake_256(b"spiritsafe links").digest(8 * 64), "<u8") | np.uint64(1)


@dataclass(frozen=True)
class Registered:
    """What the register of accounts says of one: when it was made, who pays, and from which network it signed up."""

    created: datetime | None = None
    payment: str | None = None
    signup_network: str | None = None


def empty(count: int = 1) -> Links:
    """Return the profiles of accounts that nothing is known of, shape (count,)."""
    made = np.zeros(count, LINK)
    for name in made.dtype.names or ():
        made[name] = EMPTY
    return made


def update(links: Links, rows: Columns, places: Places) -> None:
    """Take requests into the profiles at `places`, shape (requests,), in event time."""
    if not len(rows):
        return
    shown = _shown(rows)
    np.minimum.at(links["first"], places, rows.time.astype(np.uint32))
    _note_pivots(links, places, rows.time, shown["model"])
    for name in SKETCHES:
        links[name] = smallest(links[name], places, shown[name])


def register(links: Links, places: Mapping[str, int], accounts: Mapping[str, Registered]) -> None:
    """Take in what the register says of accounts that have profiles."""
    for name, known in accounts.items():
        if name not in places:
            continue
        row = links[places[name]]
        row["payment"] = _hash_of(known.payment)
        row["signup_network"] = _hash_of(known.signup_network)
        row["created"] = EMPTY if known.created is None else int(known.created.timestamp())


def merge(links: Links) -> Links:
    """Return the profile of several accounts, or of one account as several workers saw it, shape (1,).

    Of two pivots the later one stays, and of two entries in the register one.
    """
    merged = empty()
    if not len(links):
        return merged
    owner = np.zeros(len(links), np.int64)
    for name, size in SKETCHES.items():
        merged[name] = smallest(merged[name], np.repeat(owner, size), links[name].ravel())
    for name in ("first", *REGISTERED):
        merged[name] = links[name].min()
    moved = links[links["pivot_model"] != EMPTY]
    if len(moved):
        newest = moved[np.lexsort((moved["pivot_model"], moved["pivot_day"]))[-1]]
        merged["pivot_model"], merged["pivot_day"] = newest["pivot_model"], newest["pivot_day"]
    return merged


def smallest(known: Hashes, owner: Places, values: Hashes) -> Hashes:
    """Return the k smallest distinct values of each owner, known and new ones, `EMPTY` last; shape (owners, k)."""
    told = values != EMPTY
    keys = np.unique((owner[told].astype(np.uint64) << np.uint64(32)) | values[told])
    touched = np.unique((keys >> np.uint64(32)).astype(np.int64))
    if not len(touched):
        return known
    size = known.shape[1]
    old = known[touched].ravel()
    old_keys = (np.repeat(touched, size).astype(np.uint64) << np.uint64(32)) | old
    keys = np.union1d(keys, old_keys[old != EMPTY])
    owners = (keys >> np.uint64(32)).astype(np.int64)
    starts = np.append(0, np.flatnonzero(np.diff(owners)) + 1)
    rank = np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))
    kept = rank < size
    found = known.copy()
    found[touched] = EMPTY
    found[owners[kept], rank[kept]] = (keys[kept] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return found


def _shown(rows: Columns) -> dict[str, Hashes]:
    slots = (rows.time // SLOT_S).astype(np.uint64)
    minhashes = (rows.minhash.astype(np.uint64) * _ODD).sum(axis=1, dtype=np.uint64)  # one text, one signature
    return {
        "skeleton": _short(rows.skeleton),
        "form": _short(_form(rows)),
        "software": _short(rows.client),
        "network": _short(rows.network),
        "model": _short(rows.model),
        "prompt": _short(np.where(rows.minhash_known, minhashes | np.uint64(1), np.uint64(0))),
        "slot": _short(slots),
    }


def _form(rows: Columns) -> npt.NDArray[np.uint64]:
    # What a program sets once and sends with every call; what is left out is as much a habit as what is set.
    found = np.zeros(len(rows), np.uint64)
    for name in ("temperature", "choices", "logprobs", "max_tokens"):
        values = np.nan_to_num(getattr(rows, name), nan=-1.0).astype(np.float32)
        found = mixed(found ^ values.view(np.uint32).astype(np.uint64))
    for name in ("structured", "steered", "stream", "embeds"):
        found = mixed(found * np.uint64(2) + getattr(rows, name))
    return np.asarray(found | np.uint64(1))


def _short(hashed: npt.NDArray[np.uint64]) -> Hashes:
    short = (mixed(hashed) >> np.uint64(32)) % np.uint64(EMPTY)
    return np.where(hashed == 0, EMPTY, short.astype(np.uint32))


def _hash_of(text: str | None) -> int:
    if text is None:
        return int(EMPTY)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()) % int(EMPTY)


def _note_pivots(links: Links, owner: Places, time: npt.NDArray[np.float64], model: Hashes) -> None:
    order = np.lexsort((time, model, owner))
    owners, models, times = owner[order], model[order], time[order]
    begins = np.append(True, (np.diff(owners) != 0) | (models[1:] != models[:-1])) & (models != EMPTY)
    owners, models, times = owners[begins], models[begins], times[begins]
    known = (links["model"][owners] == models[:, None]).any(axis=1)
    moved = np.flatnonzero(~known & (times - links["first"][owners] >= SETTLED_DAYS * DAY_S))
    moved = moved[np.argsort(times[moved], kind="stable")]  # of several the last one stays
    links["pivot_model"][owners[moved]] = models[moved]
    links["pivot_day"][owners[moved]] = (times[moved] // DAY_S).astype(np.uint32)
