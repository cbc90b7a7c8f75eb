"""B2: classification in an ETL job. One template, texts that never recur, an answer of a few tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, labelled
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    sure = tenant.rng.random() < 0.15  # with a confidence from the log-probabilities
    while True:
        ask = labelled(tenant, tenant.next())
        yield replace(ask, parameters=ask.parameters | {"logprobs": True, "top_logprobs": 3}) if sure else ask


PROFILE = Profile(
    "B2",
    "ETL classification",
    _asks,
    volume=2.5,
    breadth=(0.1, 1.0),
    paces={"nightly": 0.3, "whole": 0.5, "window": 0.2},
)
