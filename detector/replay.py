"""The lake replayed in event time, as the service would have seen it, into the documented objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from detector.columns import Columns
from detector.scoring import Model
from detector.sets import Linker
from detector.sketch import DAY_S
from detector.watch import Assessment, Watch
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import to_rfc3339


def replay(
    rows: Columns,
    minimum_requests: int,
    uses: Mapping[str, list[DeclaredUse]],
    daily: bool = False,
    model: Model | None = None,
    linker: Linker | None = None,
) -> list[dict[str, Any]]:
    """Return one object per account, or per account and day, as `docs/` describes `detector score`.

    `score` is the highest that the account reached (that day, with `daily`), since an alert once raised does not go
    away.
    """
    watch = Watch(minimum_requests, uses, model, linker)
    found: list[dict[str, Any]] = []

    def end_of_day(day: int) -> None:
        active = np.flatnonzero(watch.book.states["day"] == day)
        for name, peak in zip(
            (watch.book.names[place] for place in active), watch.book.verdicts["day_peak"][active], strict=True
        ):
            moment = datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()
            found.append({"day": moment, **_object(watch.assess(name, float(peak)))})

    watch.advance(rows, end_of_day if daily else None)
    watch.finish()
    if daily:
        return sorted(found, key=lambda row: (row["account"], row["day"]))
    peaks = watch.book.verdicts["peak"].tolist()
    return [_object(watch.assess(name, peak)) for name, peak in sorted(zip(watch.book.names, peaks, strict=True))]


def _object(assessment: Assessment) -> dict[str, Any]:
    crossing = assessment.crossing
    return {
        "account": assessment.account,
        "score": round(assessment.score, 6),
        "severity": assessment.severity,
        "abstained": assessment.abstained,
        "reasons": assessment.reasons,
        "first_alert_at": None if crossing is None else to_rfc3339(datetime.fromtimestamp(crossing.time, UTC)),
        "requests_before_alert": None if crossing is None else crossing.requests,
        "live_requests_before_alert": None if crossing is None else crossing.live_requests,
        "teacher_tokens_before_alert": None if crossing is None else crossing.teacher_tokens,
        "set_id": assessment.set_id,
    }
