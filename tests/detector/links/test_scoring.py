"""The score of a linked set: an estimator like the others, shipped as plain arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from detector.links import scoring
from detector.links.describing import COLUMNS
from detector.links.scoring import SetScorer
from tests.detector.checks import Sample, check_detector


@pytest.fixture(scope="module")
def sample() -> Sample:
    """Return two hundred sets, a third of which ask for more that is new."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(0.3, 0.1, (200, len(COLUMNS))), columns=list(COLUMNS))
    truth = np.arange(200) % 3 == 0
    for name in ("novelty_slow", "leaked_per_request", "union"):
        frame[name] += 0.6 * truth
    extreme = frame.iloc[:1].assign(novelty_slow=2.0, leaked_per_request=2.0, union=2.0)
    return Sample(frame, extreme, truth)


def test_the_scorer_of_sets_conforms(sample: Sample) -> None:
    """It stores in `__init__`, learns in `fit`, scores higher what is more like harvesting, and repeats itself."""
    check_detector(SetScorer(trees=20), sample)


def test_what_was_learned_goes_through_plain_arrays(sample: Sample) -> None:
    """A scorer that was written and read again says the same, and needs no pickle."""
    fitted = sample.fit(SetScorer(trees=20))
    again = scoring.read(fitted.to_bytes())
    np.testing.assert_allclose(again.excess(sample.ordinary), fitted.excess(sample.ordinary), rtol=1e-5)


def test_few_ordinary_sets_reach_the_bound_that_is_frozen_on_unseen_ones(sample: Sample) -> None:
    """The bound lies above all ordinary sets but one, as trees that had not seen them scored them."""
    fitted = sample.fit(SetScorer(trees=20))
    assert sample.truth is not None
    assert (fitted.excess(sample.ordinary)[~sample.truth] >= 0).sum() <= 1 + scoring.FALSE_SETS
    assert (fitted.excess(sample.ordinary)[sample.truth] >= 0).mean() > 0.5


def test_the_shipped_scorer_reads_the_columns_that_sets_are_described_by() -> None:
    """What ships fits the code that it ships with."""
    assert np.isfinite(scoring.shipped().bound_)
