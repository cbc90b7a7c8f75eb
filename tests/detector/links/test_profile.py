"""Link profiles: small, mergeable, and the same however the lake was cut."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from detector import columns, sketch
from detector.links import profile
from detector.links.profile import EMPTY, LINK, Links, Places, Registered
from tests.detector import histories

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def rows() -> columns.Columns:
    """Return a week of two accounts with client software, networks and a second model in its last days."""
    rng = random.Random(4)
    records = []
    for name in ("one", "two"):
        for number, made in enumerate(histories.bulk(rng, name, histories.history(rng, 20, 7))):
            moved = made["time"] > histories.START + 5 * DAY
            client = {"user_agent": f"library/{number % 2}", "network": f"10.0.{number % 9}.0/24"}
            records.append({**made, "client": client, "model": "teacher-2" if moved else "teacher"})
    return columns.read(histories.to_table(records))


def profiles(rows: columns.Columns, cuts: int = 1) -> Links:
    """Read rows in so many batches."""
    links = profile.empty(2)
    for part in np.array_split(np.arange(len(rows)), cuts):
        taken = rows.take(part)
        profile.update(links, taken, taken.account)
    return links


def test_a_profile_fits_in_four_hundred_bytes_whatever_an_account_did(rows: columns.Columns) -> None:
    """Sixteen prompts or a million: a profile has one size, and so has the file that keeps it."""
    assert LINK.itemsize <= 400
    assert len(profiles(rows).tobytes()) == 2 * LINK.itemsize


@pytest.mark.parametrize("cuts", [2, 7, 40])
def test_profiles_do_not_depend_on_how_rows_were_cut_into_batches(rows: columns.Columns, cuts: int) -> None:
    """The service reads in rounds, a replay in one: both know the same."""
    np.testing.assert_array_equal(profiles(rows), profiles(rows, cuts))


def test_two_workers_that_shared_out_the_lake_merge_to_what_one_would_know(rows: columns.Columns) -> None:
    """Sketches merge without loss."""
    halves = []
    for part in (slice(None, None, 2), slice(1, None, 2)):
        links = profile.empty(2)
        taken = rows.take(np.arange(len(rows))[part])
        profile.update(links, taken, taken.account)
        halves.append(links)
    whole = profiles(rows)
    for place in range(2):
        merged = profile.merge(np.stack([half[place] for half in halves]))
        for name in profile.SKETCHES:
            np.testing.assert_array_equal(merged[name][0], whole[name][place])


def test_a_move_to_another_model_is_noted_with_its_day(rows: columns.Columns) -> None:
    """An account of five days that begins with another model has moved; its first model was no move."""
    links = profiles(rows)
    moved = (histories.START + 5 * DAY).timestamp() // sketch.DAY_S
    assert (links["pivot_model"] != EMPTY).all()
    assert (np.abs(links["pivot_day"] - moved) <= 1).all()


def test_what_the_register_says_is_kept_as_hashes_and_what_it_does_not_say_as_nothing() -> None:
    """An account without payment or network in the register shares none with anybody."""
    links = profile.empty(2)
    places: dict[str, int] = {"one": 0, "two": 1}
    created = datetime(2026, 11, 1, tzinfo=UTC)
    profile.register(links, places, {"one": Registered(created, "pay-1"), "other": Registered(created, "pay-1")})
    assert links["created"][0] == created.timestamp()
    assert links["payment"][0] != EMPTY
    assert links["signup_network"][0] == EMPTY
    assert all(links[name][1] == EMPTY for name in profile.REGISTERED)


def test_overlap_of_sketches_estimates_the_overlap_of_sets() -> None:
    """Of two accounts with half of their prompts in common the sketches share about a third of the union."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        pool = rng.integers(0, int(EMPTY), 300, dtype=np.uint32)
        owner: Places = np.repeat(np.arange(2), 200)
        held = profile.smallest(np.full((2, 16), EMPTY), owner, np.concatenate([pool[:200], pool[100:]]))
        union = np.unique(held)[:16]
        shares.append(np.isin(union, held[0]).astype(int) @ np.isin(union, held[1]) / 16)
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.05)
