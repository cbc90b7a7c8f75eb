"""When a message may go out: digests, quiet hours, and pauses between tries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.ledger.alert_events import AlertEvent
from gateway.ledger.alerts import SEVERITIES
from gateway.settings import ChannelSettings, NotificationSettings

FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(hours=1)
MOST_ATTEMPTS = 30  # with these pauses about a day
APART = timedelta(seconds=10)  # between two messages of a channel, so that a flood becomes few


def is_wanted(channel: ChannelSettings, event: AlertEvent) -> bool:
    """Does a channel tell of this?"""
    return event.kind in channel.events and SEVERITIES.index(event.severity) >= SEVERITIES.index(channel.severity)


def is_time(
    settings: NotificationSettings,
    channel: ChannelSettings,
    events: Sequence[AlertEvent],
    last_sent: datetime | None,
    moment: datetime,
) -> bool:
    """May a message about these events, the oldest first, go out now?"""
    if last_sent is not None and moment < last_sent + APART:
        return False
    if is_quiet(settings, moment) and not any(_wakes(settings, event) for event in events):
        return False
    return moment >= events[0].time + timedelta(minutes=channel.digest_minutes)


def is_quiet(settings: NotificationSettings, moment: datetime) -> bool:
    """Is it within the quiet hours, which may go past midnight?"""
    if not settings.quiet:
        return False
    start, end = (time.fromisoformat(part) for part in settings.quiet.split("-"))
    clock = moment.astimezone(ZoneInfo(settings.quiet_zone)).time()
    return start <= clock < end if start <= end else clock >= start or clock < end


def next_try(attempts: int, moment: datetime) -> datetime:
    """Return when to try again after so many failures: twice as long each time, give or take a fifth."""
    doublings = min(max(attempts - 1, 0), 16)
    pause = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return moment + pause * random.uniform(0.8, 1.2)


def _wakes(settings: NotificationSettings, event: AlertEvent) -> bool:
    if settings.wakes == "none":
        return False
    return SEVERITIES.index(event.severity) >= SEVERITIES.index(settings.wakes)
