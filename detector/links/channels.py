"""What two accounts have in common, channel by channel, as numbers; NaN where one of them says nothing.

Statistics of one channel measure the same thing in several ways and are weighed together; channels are weighed apart.
Shared values count by their rarity, as in FRAUDAR (Hooi et al., KDD 2016): log(N/df) / log(N), 1 where nobody else
has it and 0 where everybody does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detector import sketch
from detector.links.profile import EMPTY, SKETCHES, Hashes, Links, Places
from detector.sketch import DAY_S, States

CHANNELS: dict[str, tuple[str, ...]] = {
    "template": ("skeleton", "form", "software"),
    "content": ("distance", "ratio", "cosine", "prompts"),
    "time": ("start_gap", "end_gap", "overlap", "days", "slots", "rate_gap", "crowd"),
    "company": ("payment", "network", "signup_network", "signup_gap", "signup_crowd"),
    "pivot": ("pivot",),
}
STATISTICS = tuple(name for names in CHANNELS.values() for name in names)
MOST_SIGNED_UP = 0.5
_AT_ONCE = 20_000  # pairs
Floats = npt.NDArray[np.float64]


class Comparison:
    """Compares accounts of one population, whose rarities and centre it knows; rows are those of `states`."""

    def __init__(self, states: States, links: Links) -> None:
        self.links = links
        self._rarity = {name: _rarity(links[name]) for name in SKETCHES}
        for name in ("payment", "signup_network"):
            self._rarity[name] = _rarity(links[name][:, None])
        self._pivots = _pivots(links)
        self._rarity["pivot"] = _rarity(self._pivots[:, None])
        self._began, self._ended = states["first"] / DAY_S, states["last"] / DAY_S
        self._created = np.where(links["created"] == EMPTY, np.nan, links["created"] / DAY_S)
        self._starts, self._signups = np.sort(self._began), np.sort(self._created)
        days = sketch.daily(states)[:, 0]
        self._days = days > 0
        self._rate = np.log(np.maximum(days.sum(axis=1), 1.0) / np.maximum(1, self._days.sum(axis=1)))
        self._days = _by_date(self._days, states["day"])
        self._place_content(states)

    def _place_content(self, states: States) -> None:
        embedded = states["embedded"].astype(np.float64)
        self._known = embedded > 0
        self._mean = (sketch.centre_sums(states) / np.maximum(embedded, 1.0)[:, None]).astype(np.float32)
        prompts = np.maximum(1.0, np.minimum(sketch.counted(states, "items"), embedded))
        lengths = (self._mean**2).sum(axis=1)
        self._noise = np.maximum(0.02, 1.0 - lengths) / prompts
        centre = self._mean[self._known].mean(axis=0) if self._known.any() else np.float32(0)
        self._centred = self._mean - centre
        self._spread = self._typical_distance()

    @property
    def centred(self) -> npt.NDArray[np.float32]:
        """The accounts' mean embeddings less the population's, unit length or zero, shape (accounts, 128)."""
        length = np.linalg.norm(self._centred, axis=1, keepdims=True)
        return np.where(self._known[:, None], self._centred / np.maximum(length, 1e-9), 0).astype(np.float32)

    def statistics(self, first: Places, second: Places) -> Floats:
        """Return `STATISTICS` of pairs of rows, shape (pairs, statistics)."""
        parts = [
            self._part(first[begin : begin + _AT_ONCE], second[begin : begin + _AT_ONCE])
            for begin in range(0, len(first), _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(STATISTICS)))

    def _part(self, first: Places, second: Places) -> Floats:
        found = {
            **self._template(first, second),
            **self._content(first, second),
            **self._time(first, second),
            **self._company(first, second),
            "pivot": self._equal(self._pivots, "pivot", first, second),
        }
        return np.stack([found[name] for name in STATISTICS], axis=1)

    def _template(self, first: Places, second: Places) -> dict[str, Floats]:
        return {name: self._shared(name, first, second) for name in ("skeleton", "form", "software")}

    def _content(self, first: Places, second: Places) -> dict[str, Floats]:
        # A template adds the same to both means, so it is gone from their difference.
        apart = ((self._mean[first] - self._mean[second]) ** 2).sum(axis=1).astype(np.float64)
        noise = self._noise[first] + self._noise[second]
        a, b = self._centred[first], self._centred[second]
        length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        missing = np.where(self._known[first] & self._known[second], 0.0, np.nan)
        return {
            "distance": np.maximum(0.0, apart - noise) / self._spread + missing,
            "ratio": np.log(np.maximum(apart, 1e-9) / noise) + missing,
            "cosine": (a * b).sum(axis=1) / np.maximum(length, 1e-9) + missing,
            "prompts": self._overlap("prompt", first, second),
        }

    def _time(self, first: Places, second: Places) -> dict[str, Floats]:
        began, ended = self._began, self._ended
        both = np.minimum(ended[first], ended[second]) - np.maximum(began[first], began[second])
        either = np.maximum(ended[first], ended[second]) - np.minimum(began[first], began[second])
        days_both = (self._days[first] & self._days[second]).sum(axis=1)
        days_either = (self._days[first] | self._days[second]).sum(axis=1)
        return {
            "start_gap": np.abs(began[first] - began[second]),
            "end_gap": np.abs(ended[first] - ended[second]),
            "overlap": np.maximum(0.0, both + 0.05) / (either + 0.05),
            "days": days_both / np.maximum(1, days_either),
            "slots": self._overlap("slot", first, second),
            "rate_gap": np.abs(self._rate[first] - self._rate[second]),
            "crowd": _crowd(self._starts, began[first], 1.0),
        }

    def _company(self, first: Places, second: Places) -> dict[str, Floats]:
        held = self.links
        gap = np.abs(self._created[first] - self._created[second])
        crowd = _crowd(self._signups, self._created[first], 1.0)
        # Where most were entered in the register together, the day of entry is nobody's own.
        gap = np.where(crowd > MOST_SIGNED_UP, np.nan, gap)
        return {
            "payment": self._equal(held["payment"], "payment", first, second),
            "network": self._shared("network", first, second),
            "signup_network": self._equal(held["signup_network"], "signup_network", first, second),
            "signup_gap": gap,
            "signup_crowd": np.where(np.isnan(gap), np.nan, crowd),
        }

    def _shared(self, name: str, first: Places, second: Places) -> Floats:
        values, rarity = self._rarity[name]
        mine, theirs = self.links[name][first], self.links[name][second]
        same = (mine[:, :, None] == theirs[:, None, :]).any(axis=2) & (mine != EMPTY)
        weight = rarity[np.searchsorted(values, mine)]
        found = np.where(same, weight, 0.0).max(axis=1)
        return np.where((mine[:, 0] == EMPTY) | (theirs[:, 0] == EMPTY), np.nan, found)

    def _overlap(self, name: str, first: Places, second: Places) -> Floats:
        mine, theirs = self.links[name][first], self.links[name][second]
        same = ((mine[:, :, None] == theirs[:, None, :]).any(axis=2) & (mine != EMPTY)).sum(axis=1)
        least = np.minimum((mine != EMPTY).sum(axis=1), (theirs != EMPTY).sum(axis=1))
        return np.where(least > 0, same / np.maximum(1, least), np.nan)

    def _equal(self, held: Hashes, name: str, first: Places, second: Places) -> Floats:
        values, rarity = self._rarity[name]
        mine, theirs = held[first], held[second]
        found = np.where(mine == theirs, rarity[np.searchsorted(values, mine)], 0.0)
        return np.where((mine == EMPTY) | (theirs == EMPTY), np.nan, found)

    def _typical_distance(self) -> float:
        # The mean squared distance of two accounts' means, less what their few prompts add to it.
        if self._known.sum() < 2:
            return 1.0
        spread = 2 * ((self._centred[self._known] ** 2).sum(axis=1) - self._noise[self._known]).mean()
        return max(0.05, float(spread))


def _rarity(held: Hashes) -> tuple[Hashes, Floats]:
    values, counts = np.unique(held, return_counts=True)
    values, counts = (values, counts) if values[-1:] == EMPTY else (np.append(values, EMPTY), np.append(counts, 1))
    size = max(2, len(held))
    return values, np.clip(np.log(size / np.maximum(2, counts)) / np.log(size / 2 + 1), 0.0, 1.0)


def _pivots(links: Links) -> Hashes:
    mixed = links["pivot_model"].astype(np.uint64) * np.uint64(2654435761) + links["pivot_day"]
    return np.where(links["pivot_model"] == EMPTY, EMPTY, (mixed % np.uint64(EMPTY)).astype(np.uint32))


def _by_date(days: npt.NDArray[np.bool_], newest: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    # From days that end with each account's own newest one to days that end with everybody's.
    latest = int(newest.max(initial=0))
    places = np.arange(days.shape[1]) + (latest - newest.astype(np.int64))[:, None]
    inside = places < days.shape[1]
    return np.asarray(np.where(inside, np.take_along_axis(days, np.where(inside, places, 0), axis=1), False))


def _crowd(ordered: Floats, at: Floats, around: float) -> Floats:
    # The share of all accounts that began within so many days.
    near = np.searchsorted(ordered, at + around, "right") - np.searchsorted(ordered, at - around)
    return near / max(1, len(ordered))
