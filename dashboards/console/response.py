"""The ladder beside an alert: each step with what it does and what it would have done to last week's requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from sqlalchemy import Connection

from dashboards.console import words
from dashboards.console.figures import Figures, days_back
from gateway.ledger import alerts, dry_runs, registry
from gateway.ledger.alerts import Alert, Finding
from gateway.ledger.database import Database
from gateway.ledger.enforcement import ACTIONS, Action, Step
from gateway.ledger.errors import InvalidValue
from gateway.ledger.estimates import Estimate
from gateway.ledger.lake import Lake

EXPIRIES = (1, 3, 7, 30)
PART = 10  # a cap is proposed at a tenth of what the accounts had of the teacher in a day
LEAST = 1000  # teacher tokens a day
DAYS = 7

VERBS: dict[Action, str] = {
    "watch": "Watch",
    "strip": "Strip",
    "divert": "Divert",
    "cap": "Cap",
    "verify": "Ask for a declared use of",
    "suspend": "Suspend",
}
TITLES: dict[Action, str] = {
    "watch": "Watch",
    "strip": "Strip",
    "divert": "Divert to the student",
    "cap": "Cap the teacher’s tokens",
    "verify": "Ask for a declared use",
    "suspend": "Suspend",
}
EFFECTS: dict[Action, str] = {
    "watch": "Nothing changes for it. The alert is raised again when much more has leaked.",
    "strip": "No log-probabilities, and one choice a request. None is refused.",
    "divert": "A student answers its auto requests, and named ones where its contract allows.",
    "cap": "429, as for a spent budget, beyond so many output tokens of a teacher a day.",
    "verify": "A notice in the headers for a day, stripped meanwhile; then 403 that says how to declare a use.",
    "suspend": "403 on every worker within a second.",
}


@dataclass(frozen=True)
class Rung:
    """A step as the panel shows it. `number` is its key; `obstacle` why it can't be taken, empty where it can.

    `estimate` is None until the traffic has been read for it.
    """

    action: Action
    number: int
    estimate: Estimate | None = None
    obstacle: str = ""

    @property
    def title(self) -> str:
        """What it is called."""
        return TITLES[self.action]

    @property
    def verb(self) -> str:
        """What its button says."""
        return VERBS[self.action]

    @property
    def effect(self) -> str:
        """What it does."""
        return EFFECTS[self.action]

    @property
    def forecast(self) -> str:
        """What it would have done, in a line; the whole arithmetic is `estimate.sentence()`."""
        found = self.estimate
        if found is None:
            return ""
        if not found.requests:
            return "Nothing was answered last week, so there is nothing to go by."
        if self.action == "watch":
            return f"Last week it had {words.compact(found.teacher_tokens)} teacher tokens."
        parts = [f"stops {words.percent(found.share)} of its teacher tokens" if found.share is not None else ""]
        parts.append(f"changes {words.plural(found.changed, 'request')}" if found.changed else "")
        parts.append(f"refuses {words.plural(found.refused, 'request')}" if found.refused else "")
        others = found.others_refused + found.others_changed
        parts.append(f"{words.number(others)} of these are others’" if others else "")
        return "Last week: " + ", ".join(part for part in parts if part) + "."


def ladder(connection: Connection) -> list[Rung]:
    """Return the rungs, not estimated yet."""
    student = bool(registry.in_state(connection, "promoted"))
    return [
        Rung(action, number, obstacle="" if student or action != "divert" else "no student is promoted")
        for number, action in enumerate(ACTIONS, 1)
    ]


def estimated(database: Database, lake: Lake, names: Sequence[str], tokens_per_day: int) -> list[Rung]:
    """Return the rungs with what each would have done; the cap is played with so many teacher tokens a day."""
    steps = [Step(action, tokens_per_day=tokens_per_day if action == "cap" else None) for action in ACTIONS]
    runs = dry_runs.of_steps(database, lake, names, steps)
    with database.read() as connection:
        rungs = ladder(connection)
    return [replace(rung, estimate=run.total) for rung, run in zip(rungs, runs, strict=True)]


def proposed_cap(names: Sequence[str], figures: Figures) -> int:
    """Return a tenth of the last week's daily mean of teacher tokens in two figures, at least a thousand."""
    first = days_back(DAYS)[0]
    cells = [cell for name in names for cell in figures.of(name) if cell.day >= first]
    tenth = sum(cell.usage.teacher_tokens for cell in cells) / DAYS / PART
    return LEAST if tenth < LEAST else int(float(f"{tenth:.1e}"))


def decide(connection: Connection, alert_id: str, operator: str, form: Mapping[str, str]) -> Alert:
    """Decide about an alert as a form says (decision, finding, days, tokens, note).

    `InvalidValue` says what is missing. A step without a finding is one against harvesting, which is what alerts are
    about; a dismissal says what it was instead.
    """
    decision, days = form["decision"], form["days"]
    if decision not in alerts.DECISIONS:
        raise InvalidValue("nothing was decided: choose dismiss or a step first")
    if days not in map(str, EXPIRIES):
        raise InvalidValue(f"nothing was decided: choose an expiry of {', '.join(map(str, EXPIRIES))} days")
    finding = form["finding"] or ("harvesting" if decision != "dismiss" else "")
    if not finding:
        raise InvalidValue("nothing was decided: choose what it was instead of harvesting")
    tokens = None
    if decision == "cap":
        if not form["tokens"].isdecimal() or len(form["tokens"]) > 12:
            raise InvalidValue("nothing was decided: give a cap in whole teacher tokens a day")
        tokens = int(form["tokens"])
    duration = timedelta(days=int(days))
    return alerts.decide(
        connection, alert_id, decision, operator, form["note"], duration, tokens, cast(Finding, finding)
    )


def names_in_words(names: Sequence[str]) -> str:
    """Write whom a decision hits."""
    return names[0] if len(names) == 1 else f"{words.number(len(names))} accounts"
