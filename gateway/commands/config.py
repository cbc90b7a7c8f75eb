"""`spiritsafe config reload`: workers take over the settings file, all of it or nothing."""

from __future__ import annotations

import sys
import time

import click

from gateway import reload
from gateway.command import Context, standard_options
from gateway.ledger.errors import Forbidden, NotFound

WAIT_S = 10.0
POLL_S = 0.05
COLUMNS = ("worker", "pid", "changed", "restart", "error")


@click.group()
def config() -> None:
    """Take over a changed settings file."""


@config.command(name="reload")
@standard_options
def reload_settings(context: Context) -> None:
    """Have the running gateway workers read the settings file anew; requests under way keep what they began with.

    A file that is not valid changes nothing: the command ends with status 2 and the line to mend. What can't change
    live is listed under `restart`.
    """
    try:
        asked = reload.ask(context.settings.data_dir)
    except PermissionError as error:
        raise Forbidden("the workers belong to another user: run this as the user who started them") from error
    if not asked:
        raise NotFound(
            f"no gateway runs on {context.settings.data_dir}: start it with `spiritsafe up` or `spiritsafe gateway`, "
            "which read the file as it is"
        )
    answered = _answers(context, {report.slot: report.number for report in asked})
    context.emit([_row(report) for report in answered], COLUMNS)
    failed = [report.error for report in answered if report.error is not None]
    if failed or len(answered) < len(asked):
        context.say(f"error: {failed[0] if failed else 'a worker gave no answer: its log says why'}")
        sys.exit(1)


def _answers(context: Context, before: dict[str, int]) -> list[reload.Report]:
    """Wait until every worker that was asked has said how it went, or the time is over; those that have."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = reload.reports(context.settings.data_dir)
        answered = [report for report in found if report.number > before.get(report.slot, report.number)]
        if len(answered) == len(before) or time.monotonic() > deadline:
            return answered
        time.sleep(POLL_S)


def _row(report: reload.Report) -> dict[str, object]:
    return {
        "worker": report.slot,
        "pid": report.pid,
        "changed": list(report.changed),
        "restart": list(report.restart),
        "error": report.error,
    }
