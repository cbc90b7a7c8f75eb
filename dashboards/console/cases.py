"""An alert with what has happened since: what leaked, and whether it still does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from dashboards.console import words
from dashboards.console.figures import Cell, Figures, Usage, days_back, grouped, total
from gateway.ledger.alerts import Alert
from gateway.ledger.enforcement import Enforcement
from gateway.ledger.identifiers import now

Flow = Literal["leaking", "diverted", "capped", "asked to declare", "suspended", "stopped"]
# An account that is only watched or stripped leaks on, or has stopped by itself.
_FLOWS: dict[str, Flow] = {
    "divert": "diverted",
    "cap": "capped",
    "verify": "asked to declare",
    "suspend": "suspended",
}
QUEUE_DAYS = 14


@dataclass(frozen=True)
class Case:
    """One alert as the queue shows it. `daily` are teacher tokens by day, of the last fourteen days for the queue."""

    alert: Alert
    usage: Usage
    daily: dict[date, int]
    flow: Flow
    last: datetime | None
    measure: Enforcement | None

    @property
    def reason(self) -> str:
        """The strongest reason in words."""
        return str(self.alert.reasons[0]["text"]) if self.alert.reasons else "no reason was recorded"

    @property
    def requests(self) -> int:
        """Requests that the evidence counts."""
        return int(self.alert.evidence.get("requests", 0))

    @property
    def teacher_tokens(self) -> int:
        """Teacher output tokens that the evidence counts."""
        return int(self.alert.evidence.get("teacher_tokens", 0))

    @property
    def cost(self) -> int:
        """What they cost, in nano-dollars."""
        return int(self.alert.evidence.get("cost", 0))

    @property
    def first_day(self) -> date:
        """The first day with evidence."""
        return min((day for day, tokens in self.daily.items() if tokens), default=self.alert.opened.date())

    @property
    def rate(self) -> int:
        """Teacher tokens of the last 24 hours, while it still leaks."""
        return self.usage.recent_tokens if self.flow == "leaking" else 0

    @property
    def status(self) -> str:
        """Whether it still leaks, in words."""
        if self.flow == "leaking":
            return "still leaking"
        if self.flow == "stopped":
            return f"stopped {words.ago(self.last)}" if self.last else "stopped"
        return self.flow

    def recent(self) -> list[int]:
        """Return teacher tokens of the last fourteen days, oldest first."""
        return [self.daily.get(day, 0) for day in days_back(QUEUE_DAYS)]


def build(alert: Alert, figures: Figures, measures: Mapping[str, Enforcement]) -> Case:
    """Join an alert with its account's traffic."""
    cells = figures.of(alert.account)
    usage = total(cells)
    daily = daily_tokens(cells) or _evidence_days(alert)
    measure = measures.get(alert.account)
    return Case(alert, usage, daily, _flow(usage, daily, measure), usage.last, measure)


def daily_tokens(cells: Sequence[Cell]) -> dict[date, int]:
    """Return teacher tokens by day."""
    by_day = grouped(cells, lambda cell: cell.day)
    return {day: by_day[day].teacher_tokens for day in sorted(by_day)}


def _evidence_days(alert: Alert) -> dict[date, int]:
    rows = alert.evidence.get("daily", [])
    return {date.fromisoformat(str(row["day"])[:10]): int(row.get("teacher_tokens", 0)) for row in rows}


def _flow(usage: Usage, daily: Mapping[date, int], measure: Enforcement | None) -> Flow:
    if measure is not None and measure.action in _FLOWS:
        return _FLOWS[measure.action]
    if usage.requests:
        return "leaking" if usage.recent_tokens else "stopped"
    return "leaking" if daily.get(now().date(), 0) else "stopped"
