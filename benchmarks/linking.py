"""Fits what links accounts and scores linked sets, and measures both on months that they were not fitted on.

    python -m benchmarks.linking --data DIR --folder BUILD --fit 101,102 --report 201
    python -m benchmarks.linking --data DIR --folder BUILD --report 301 --without company

Without `--fit` what ships is measured. Months are made once and kept in the folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.evaluation import linking
from detector.evaluation.attacks import attack_strategies
from detector.evaluation.benign import benign_profiles
from detector.evaluation.corpora import load_corpora
from detector.evaluation.linking import DAYS, FACTS, Month
from detector.evaluation.planning import Size, World
from detector.evaluation.traces import load_clients
from detector.evaluation.training import permitted
from detector.links import likelihood, scoring
from detector.links.profile import LINK, Places
from detector.sketch import STATE

SIZE = Size(1_200, 1, 30_000, 20)
SIZES = ((5, 15), (15, 60), (60, 200), (200, 2_000))  # members of a campaign


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of corpora and traces [own prompts]")
    parser.add_argument("--folder", type=Path, default=Path("build/linking"))
    parser.add_argument("--fit", type=_numbers, default=(), help="seeds of months to fit on")
    parser.add_argument("--report", type=_numbers, default=(), help="seeds of months to measure on")
    parser.add_argument("--without", default="", help="channels that are not used, separated by commas")
    parser.add_argument("--days", type=_numbers, default=DAYS, help="days of the month to measure at the end of")
    given = parser.parse_args()
    if given.fit:
        fit([month(given.data, given.folder, seed, learnt_from=True) for seed in given.fit])
    without = tuple(name for name in given.without.split(",") if name)
    for seed in given.report:
        for line in report(month(given.data, given.folder, seed, learnt_from=False), without, given.days):
            print(line, flush=True)


def fit(months: Sequence[Month]) -> None:
    """Fit both, and write them where they are shipped from."""
    pairs = linking.fit_pairs(months)
    likelihood.SHIPPED.write_text(json.dumps(likelihood.document(pairs)))
    likelihood.shipped.cache_clear()
    scoring.SHIPPED.write_bytes(linking.fit_sets(months, likelihood.shipped()).to_bytes())
    scoring.shipped.cache_clear()


def month(data: Path | None, folder: Path, seed: int, learnt_from: bool) -> Month:
    """Return a month, simulated where it is not kept yet; what is learnt from has no corpora of barred licences."""
    path = folder / f"{seed}{'-permitted' if learnt_from else ''}.npz"
    if path.exists():
        return read(path)
    everything = World(load_corpora(data), load_clients(data), benign_profiles(), attack_strategies())
    world = linking.many_accounts(permitted(data) if learnt_from else everything)
    made = linking.joined(list(linking.follow(world, world.plan(SIZE, seed), seed)))
    folder.mkdir(parents=True, exist_ok=True)
    write(path, made)
    return made


def write(path: Path, made: Month) -> None:
    """Keep a month."""
    arrays = {name: getattr(made, name) for name in FACTS}
    for name in ("states", "links"):
        held = getattr(made, name)
        arrays |= {f"{name}{day}": np.frombuffer(held[day].tobytes(), np.uint8) for day in DAYS}
    np.savez(path, **arrays)


def read(path: Path) -> Month:
    """Return a month that was kept."""
    with np.load(path, allow_pickle=False) as found:
        kinds = {"states": STATE, "links": LINK}
        held: dict[str, Any] = {
            name: {day: np.frombuffer(found[f"{name}{day}"].tobytes(), kind) for day in DAYS}
            for name, kind in kinds.items()
        }
        return Month(**held, **{name: found[name] for name in FACTS})


def report(found: Month, without: Collection[str] = (), days: Sequence[int] = DAYS) -> Iterator[str]:
    """Yield lines: what was found at the end of each day, and how the sets scored."""
    began = _beginnings(found)
    caught: dict[str, int] = {}
    false: set[str] = set()
    for day in days:
        clock = time.process_time()
        sets, frame, truth, groups = linking.described(found, day, likelihood.shipped(), without)
        scores = scoring.shipped().excess(frame)
        spent = time.process_time() - clock
        purity = [float((found.group[each] == name).mean()) for each, name in zip(sets, groups, strict=True)]
        flagged = scores >= 0
        for name, bad, is_true in zip(groups.tolist(), flagged, truth, strict=True):
            if bad and is_true:
                caught.setdefault(name, day)
            elif bad and not found.attack[found.group == name].any():
                false.add(name)
        yield (
            f"day {day}: {len(sets)} sets, {int(truth.sum())} campaigns of purity "
            f"{np.mean([p for p, t in zip(purity, truth, strict=True) if t] or [1.0]):.3f}, excess of campaigns "
            f"{_quartiles(scores[truth])}, of others {_quartiles(scores[~truth])}, {int((flagged & ~truth).sum())} "
            f"others flagged, {spent:.1f} s of CPU for {len(found.rows(day))} accounts"
        )
        yield from _by_size(found, day, sets, groups, flagged, began)
        for row in np.flatnonzero(flagged & ~truth):
            kinds = Counter(found.kind[sets[row]].tolist()).most_common(3)
            yield f"  false: {groups[row]} of {len(sets[row])}, {kinds}, excess {scores[row]:.1f}"
    yield f"false sets in the month: {len(false)}"
    leaked = [_leaked(found, name, caught.get(name)) for name in began]
    yield f"share of a campaign leaked before its set was flagged: median {np.median(leaked):.2f}"
    yield f"campaigns whose set was flagged: {len(caught)} of {len(began)}"


def _beginnings(found: Month) -> dict[str, int]:
    # The first day of harvesting of every campaign of several accounts.
    began: dict[str, int] = {}
    for row in np.flatnonzero(found.members >= 3):
        days = np.flatnonzero(found.harvest[row])
        if len(days):
            name = str(found.group[row])
            began[name] = min(began.get(name, 99), int(days[0]))
    return began


def _by_size(
    found: Month,
    day: int,
    sets: Sequence[Places],
    groups: npt.NDArray[np.str_],
    flagged: npt.NDArray[np.bool_],
    began: dict[str, int],
) -> Iterator[str]:
    linked, scored = np.zeros(len(found.group), bool), np.zeros(len(found.group), bool)
    for each, name, is_flagged in zip(sets, groups, flagged, strict=True):
        own = each[found.group[each] == name]
        if len(own) >= len(each) / 2:
            linked[own], scored[own] = True, is_flagged
    for least, most in SIZES:
        shares = []
        for name, first in began.items():
            rows = np.flatnonzero((found.group == name) & (found.members >= least) & (found.members < most))
            active = rows[found.harvested(day)[rows] > 0]
            if len(active) and day > first:
                shares.append((linked[active].mean(), scored[active].mean(), day - first))
        if shares:
            table = np.array(shares)
            yield (
                f"  campaigns of {least}–{most} ({len(table)}): members linked {table[:, 0].mean():.2f}, "
                f"in flagged sets {table[:, 1].mean():.2f}; begun 2–4 days ago {_mean(table, 2, 4)}, "
                f"5–13 {_mean(table, 5, 13)}, 14 and more {_mean(table, 14, 28)}"
            )


def _mean(table: npt.NDArray[np.float64], least: int, most: int) -> str:
    inside = table[(table[:, 2] >= least) & (table[:, 2] <= most)]
    return "–" if not len(inside) else f"{inside[:, 0].mean():.2f}/{inside[:, 1].mean():.2f}"


def _leaked(found: Month, name: str, day: int | None) -> float:
    harvest = found.harvest[found.group == name].sum(axis=0)
    return 1.0 if day is None else float(harvest[:day].sum() / harvest.sum())


def _quartiles(values: npt.NDArray[np.float64]) -> str:
    return "–" if not len(values) else "/".join(f"{each:.1f}" for each in np.quantile(values, (0.25, 0.5, 0.75)))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
