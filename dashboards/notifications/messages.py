"""What a message says: who, how severe, the strongest reason and a link; never a prompt, a key or a record's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.console import words
from gateway.ledger.alert_events import AlertEvent
from gateway.ledger.alerts import SEVERITIES, Alert
from gateway.ledger.identifiers import to_rfc3339

LISTED = 10
REASON_LENGTH = 200


@dataclass(frozen=True)
class Item:
    """An alert and the last that happened to it. `link` leads to it in the console, empty where there is no address."""

    event: AlertEvent
    alert: Alert
    link: str

    @property
    def who(self) -> str:
        """The account, and how many others act with it."""
        others = len(self.alert.accounts) - 1
        return self.alert.account + (f" and {words.plural(others, 'other')}" if others else "")

    @property
    def happened(self) -> str:
        """What happened, in words."""
        if self.event.kind == "decided" and self.alert.decision is not None:
            step = "dismissed" if self.alert.decision == "dismiss" else words.taken(self.alert.decision)
            found = f" ({words.finding(self.alert.finding)})" if self.alert.finding else ""
            return f"{step} by {self.alert.operator}{found}"
        return {"opened": "new", "raised": f"raised to {self.event.severity}"}.get(self.event.kind, "decided")

    @property
    def reason(self) -> str:
        """The strongest reason."""
        text = str(self.alert.reasons[0].get("text", "")) if self.alert.reasons else "no reason was recorded"
        return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1] + "…"

    @property
    def line(self) -> str:
        """All of it in a line."""
        return f"{self.alert.severity}: {self.who}, {self.happened}: {self.reason}"

    def document(self) -> dict[str, Any]:
        """Return it as the webhooks carry it."""
        alert = self.alert
        return {
            "event": self.event.kind,
            "alert": alert.id,
            "account": alert.account,
            "accounts": len(alert.accounts),
            "severity": alert.severity,
            "state": alert.state,
            "opened": to_rfc3339(alert.opened),
            "reason": self.reason,
            "decision": alert.decision,
            "finding": alert.finding,
            "link": self.link or None,
        }


@dataclass(frozen=True)
class Message:
    """What is sent; `id` is the same each time that it is tried. The worst and newest items come first."""

    id: str
    items: tuple[Item, ...]
    queue: str  # the queue's address, or empty

    @property
    def title(self) -> str:
        """What it is about, in a line."""
        if len(self.items) == 1:
            item = self.items[0]
            return f"[{item.alert.severity}] {item.who}: {item.happened}"
        counts = [(level, sum(item.alert.severity == level for item in self.items)) for level in reversed(SEVERITIES)]
        parts = ", ".join(f"{words.number(count)} {level}" for level, count in counts if count)
        return f"{words.number(len(self.items))} alerts: {parts}"

    @property
    def text(self) -> str:
        """The whole as plain text."""
        lines = [part for item in self.items[:LISTED] for part in (item.line, item.link, "") if part or not item.link]
        if len(self.items) > LISTED:
            lines.append(f"and {words.number(len(self.items) - LISTED)} more")
        return "\n".join([*lines, f"The queue: {self.queue}" if self.queue else ""]).rstrip() + "\n"


def compose(identity: str, events: Sequence[AlertEvent], alerts: Mapping[str, Alert], address: str) -> Message | None:
    """Make one message of what happened; None where none of the alerts is there any more."""
    last = {event.alert: event for event in events}
    root = address.rstrip("/")
    items = [
        Item(event, alerts[one], f"{root}/alerts/{one}" if root else "") for one, event in last.items() if one in alerts
    ]
    items.sort(key=lambda item: (SEVERITIES.index(item.alert.severity), item.event.number), reverse=True)
    return Message(identity, tuple(items), f"{root}/" if root else "") if items else None
