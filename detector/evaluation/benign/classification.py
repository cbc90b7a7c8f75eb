"""B2: classification in an ETL job. One template, texts that never recur, an answer of a few tokens."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, labelled
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    while True:
        yield labelled(tenant, tenant.next())


PROFILE = Profile("B2", "ETL classification", _asks, volume=1.5, paces={"nightly": 0.3, "whole": 0.5, "window": 0.2})
