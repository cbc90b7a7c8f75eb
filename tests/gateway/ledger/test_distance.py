"""The adequacy distance: what it accepts, what it costs, and what it keeps."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from gateway.ledger.distance import FAR, Distance, conformal_quantile
from gateway.ledger.errors import Corrupt, InvalidValue
from tests.gateway.ledger.adequacy_tasks import FOREIGN, TASKS, Draw, draws, foreign

QUICK = "hosting tickets"  # the others are fitted by `make test`
OTHERS = [task for task in TASKS if task != QUICK]


def fitted(draw: Draw, rows: int = 400, seed: int = 1) -> tuple[Distance, list[str]]:
    """A distance calibrated on 200 rows, and 300 further fresh texts."""
    texts = draws(draw, rows + 500, seed)
    return Distance.fit(texts[:rows]).calibrated(texts[rows : rows + 200]), texts[rows + 200 :]


@pytest.fixture(scope="module")
def hosting() -> Distance:
    return fitted(TASKS["hosting tickets"])[0]


@pytest.mark.parametrize("task", [QUICK, *(pytest.param(task, marks=pytest.mark.slow) for task in OTHERS)])
def test_accepts_fresh_rows_and_refuses_foreign_ones(task: str) -> None:
    """On each of five tasks most fresh texts are near, and of 220 foreign ones at most 5 % are."""
    distance, fresh = fitted(TASKS[task])
    accepted = [distance.distance(text) <= distance.threshold for text in fresh]
    # 200 calibration rows promise 95 % on average; a single draw of them has a standard deviation of 1.5 points.
    assert np.mean(accepted) >= 0.91
    taken = [text for text in foreign(task, 220, 5) if distance.distance(text) <= distance.threshold]
    assert len(taken) <= 11, taken


def test_refuses_a_ticket_of_another_trade(hosting: Distance) -> None:
    """A support ticket in the same tone about parcels, flights or dishwashers is foreign to the hosting task."""
    near = draws(FOREIGN["near miss"], 100, 3)
    assert sum(hosting.distance(text) <= hosting.threshold for text in near) <= 5


@pytest.mark.slow
def test_holds_its_coverage_over_many_calibrations() -> None:
    """Over 40 independent calibrations the mean share of accepted fresh rows is at least 94 %."""
    texts = draws(TASKS["hotel reviews"], 3000, 2)
    distances = np.array([*map(Distance.fit(texts[:300]).distance, texts[300:])])
    rng = np.random.default_rng(7)
    shares = []
    for _ in range(40):
        shuffled = rng.permutation(distances)
        shares.append(np.mean(shuffled[200:] <= conformal_quantile(shuffled[:200].tolist())))
    assert np.mean(shares) >= 0.94


def test_conformal_quantile_is_the_rank_of_the_literature() -> None:
    """Of 99 distances 1…99 the 95 % quantile is the 95th, ⌈100 · 0.95⌉; 18 rows can promise nothing."""
    assert conformal_quantile([float(i) for i in range(99, 0, -1)]) == 95.0
    assert conformal_quantile([float(i) for i in range(1, 20)]) == 19.0
    with pytest.raises(InvalidValue, match="at least 19"):
        conformal_quantile([1.0] * 18)


@pytest.mark.slow
def test_costs_less_than_a_millisecond() -> None:
    """At 1,000 reference rows a text takes less than 1 ms of CPU at the median."""
    distance, fresh = fitted(TASKS["hosting tickets"], rows=1000)
    taken = []
    for text in fresh:
        begin = time.thread_time()
        distance.distance(text)
        taken.append(time.thread_time() - begin)
    assert float(np.median(taken)) < 0.001


def test_a_saved_distance_is_the_same(hosting: Distance, tmp_path: Path) -> None:
    """A distance read back from its file gives the same numbers, and the file holds no text and no pickle."""
    hosting.save(tmp_path / "adequacy.npz")
    again = Distance.load(tmp_path / "adequacy.npz")
    text = "the control panel is very slow since the update"
    assert (again.distance(text), again.threshold) == (hosting.distance(text), hosting.threshold)
    with np.load(tmp_path / "adequacy.npz", allow_pickle=False) as file:
        assert {file[name].dtype.kind for name in file.files} <= {"f", "i", "u"}
    assert [path.name for path in tmp_path.iterdir()] == ["adequacy.npz"]


def test_refuses_a_file_that_is_none(tmp_path: Path) -> None:
    """Bytes of another kind are reported with the remedy instead of a numpy trace."""
    (tmp_path / "adequacy.npz").write_bytes(b"not an archive")
    with pytest.raises(Corrupt, match="train the student again"):
        Distance.load(tmp_path / "adequacy.npz")


def test_scrubbed_and_live_text_are_equally_far(hosting: Distance) -> None:
    """A placeholder is as far as what it stands for, so scrubbing the training rows does not move live traffic away."""
    live = "Hi, mails from ana@my-shop.example land in the spam folder, call me: 030 1234567"
    scrubbed = "Hi, mails from [EMAIL_1] land in the spam folder, call me: [PHONE_1]"
    assert hosting.distance(live) == pytest.approx(hosting.distance(scrubbed), abs=0.75)


@pytest.mark.parametrize("text", ["", "   ", "ticket " * 400])
def test_no_words_or_far_too_many_are_far(hosting: Distance, text: str) -> None:
    """Empty texts and texts more than twice as long as any reference row are as far as can be, and finite."""
    assert hosting.distance(text) == FAR
    assert math.isfinite(FAR)


def test_needs_enough_rows() -> None:
    """A fit on a handful of rows is refused."""
    with pytest.raises(InvalidValue, match="too few"):
        Distance.fit(["one row"] * 5)


def test_uncalibrated_accepts_nothing() -> None:
    """Without a threshold no text is near: NaN compares false."""
    distance = Distance.fit(draws(TASKS["recipe steps"], 50, 1))
    assert not distance.distance("Fry a cup of rice until smooth.") <= distance.threshold
