"""The lake replayed in event time, as the service would have seen it, into the documented objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from detector.observations import Observation
from detector.watch import DAY_S, Assessment, Watch
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import to_rfc3339


def replay(
    seen: Iterable[Observation],
    minimum_requests: int,
    uses: Mapping[str, list[DeclaredUse]],
    daily: bool = False,
) -> list[dict[str, Any]]:
    """Return one object per account, or per account and day, as `docs/` describes `detector score`.

    `score` is the highest that the account reached (that day, with `daily`), since an alert once raised does not go
    away.
    """
    watch = Watch(minimum_requests, uses)
    rows: list[dict[str, Any]] = []

    def end_of_day(day: int) -> None:
        for name, tracked in sorted(watch.tracked.items()):
            if int(tracked.account.last_seen // DAY_S) == day:
                assessment = watch.assess(name, tracked.day_peak)
                rows.append({"day": datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat(), **_object(assessment)})

    watch.advance(seen, end_of_day if daily else None)
    if daily:
        end_of_day(watch.day)
        return sorted(rows, key=lambda row: (row["account"], row["day"]))
    return [_object(watch.assess(name, tracked.peak)) for name, tracked in sorted(watch.tracked.items())]


def _object(assessment: Assessment) -> dict[str, Any]:
    crossing = assessment.crossing
    return {
        "account": assessment.account,
        "score": round(assessment.score, 4),
        "severity": assessment.severity,
        "abstained": assessment.abstained,
        "reasons": assessment.reasons,
        "first_alert_at": None if crossing is None else to_rfc3339(datetime.fromtimestamp(crossing.time, UTC)),
        "requests_before_alert": None if crossing is None else crossing.requests,
        "live_requests_before_alert": None if crossing is None else crossing.live_requests,
        "teacher_tokens_before_alert": None if crossing is None else crossing.teacher_tokens,
        "set_id": None,
    }
