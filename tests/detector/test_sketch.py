"""An account's state: of fixed size, the same however it was fed, and one with others when merged."""

from __future__ import annotations

import random

import numpy as np
import pytest

from detector import columns, features, sketch
from detector.checkpoints import Follower
from detector.columns import Columns
from detector.sketch import States
from tests.detector import histories

KINDS = {"bulk": histories.bulk, "chat": histories.chat_app, "load": histories.load_test}


def _followed(rows: Columns, sizes: int = 10_000) -> tuple[States, dict[str, int]]:
    names = sorted(rows.names)
    places = np.array([names.index(name) for name in rows.names])[rows.account]
    states = sketch.empty(len(names))
    follower = Follower(lambda *_: None, lambda *_: None)
    for begin in range(0, len(rows), sizes):
        chosen = np.arange(begin, min(len(rows), begin + sizes))
        part, mine = rows.take(chosen), places[chosen]
        for day, at in follower.days(part):
            follower.begin(states, day)
            follower.advance(states, part.take(at), mine[at])
    return states, {name: place for place, name in enumerate(names)}


@pytest.fixture(scope="module")
def rows() -> Columns:
    """Return ten days of three accounts."""
    rng = random.Random(3)
    made = [row for name, kind in KINDS.items() for row in kind(rng, name, histories.history(rng, 40, 10))]
    return columns.read(histories.to_table(made))


def test_a_state_is_at_most_two_kilobytes_and_outlives_its_bytes(rows: Columns) -> None:
    """Whatever an account does, its state has one size, and bytes bring it back as it was."""
    states, _ = _followed(rows)
    raw = sketch.to_bytes(states)
    assert len(raw) == len(states) * sketch.STATE.itemsize
    assert sketch.STATE.itemsize <= 2048
    assert sketch.to_bytes(sketch.from_bytes(raw)) == raw
    with pytest.raises(ValueError, match="buffer size"):
        sketch.from_bytes(raw[:-1])


@pytest.mark.parametrize("sizes", [1, 7, 331])
def test_it_does_not_matter_how_requests_are_cut(rows: Columns, sizes: int) -> None:
    """One request at a time leaves the state that all at once leave, to the rounding of sums."""
    few = rows.take(np.arange(300))
    whole, _ = _followed(few)
    parts, _ = _followed(few, sizes)
    for name in sketch.STATE.names or ():
        np.testing.assert_allclose(parts[name].astype(float), whole[name].astype(float), rtol=1e-5, err_msg=name)


def test_merged_is_as_if_one_account_had_asked_it_all(rows: Columns) -> None:
    """The state of a set counts every request once, and a thing that both asked once."""
    states, place = _followed(rows)
    both = sketch.merge(states[[place["bulk"], place["chat"]]])
    alone = [states[[place[name]]] for name in ("bulk", "chat")]
    assert both["total"][0] == sum(one["total"][0] for one in alone)
    assert sketch.daily(both)[0, 0].sum() == pytest.approx(
        sum(sketch.daily(one)[0, 0].sum() for one in alone), rel=0.01
    )
    items = [sketch.counted(one, "items")[0] for one in alone]
    assert max(items) < sketch.counted(both, "items")[0] <= 1.15 * sum(items)
    twice = sketch.merge(np.concatenate([alone[0], alone[0]]))
    assert sketch.counted(twice, "items")[0] == items[0]
    assert np.isfinite(features.matrix(both)[~np.isnan(features.matrix(both))]).all()


def test_counts_of_different_things_are_near(rows: Columns) -> None:
    """A collector's hundreds of prompts are counted to about a tenth, a load test's one as one."""
    states, place = _followed(rows)
    asked = int(states["total"][place["bulk"]])
    assert sketch.counted(states, "items")[place["bulk"]] == pytest.approx(asked, rel=0.25)
    assert sketch.counted(states, "items")[place["load"]] == pytest.approx(1, abs=0.1)


def test_features_tell_a_collector_from_a_load_test(rows: Columns) -> None:
    """What was never asked before is novel and leaks; the same prompt again is not."""
    states, place = _followed(rows)
    frame = features.features(states)
    bulk, load = frame.iloc[place["bulk"]], frame.iloc[place["load"]]
    assert bulk["novelty_slow"] > 0.7 > 0.1 > load["novelty_slow"]
    assert bulk["leaked_month"] > load["leaked_month"] + 1
    assert load["repeated_slow"] > 0.9 > bulk["repeated_slow"]
