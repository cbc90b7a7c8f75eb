"""`spiritsafe traffic …`: watch records come in, check that none is lost, bring in history, take out, keep in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pyarrow.compute as pc

from gateway.command import Context, Moment, standard_options
from gateway.commands.erase import quiet_s, surroundings
from gateway.ledger import exporting
from gateway.ledger.importing import import_traffic
from gateway.ledger.lake import Lake
from gateway.ledger.maintenance import maintain as maintain_traffic
from gateway.ledger.maintenance import nightly
from gateway.ledger.rehashing import RowReport, rehash
from gateway.ledger.traffic import from_row
from gateway.ledger.verification import verify as verify_traffic

COLUMNS = ("time", "account", "model_requested", "model", "route", "status", "tokens", "latency_ms", "id")
POLL_S = 0.5


@click.group()
def traffic() -> None:
    """Watch, verify, import, export and maintain traffic records."""


@traffic.command()
@click.option("--follow", is_flag=True, help="Go on printing records as they come, until Ctrl-C.")
@click.option("--account", help="Records of this account only.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many to begin with.")
@standard_options
def tail(context: Context, follow: bool, account: str | None, limit: int) -> None:
    """Print the newest records, oldest of them first; with --json each as the documented record."""
    lake = Lake.of(context.settings)
    # A KeyboardInterrupt that arrives inside a clean-up is lost; a handler hears every Ctrl-C.
    ended = threading.Event()
    if follow:
        signal.signal(signal.SIGINT, lambda _number, _frame: ended.set())
    version = lake.version()
    _show(context, newest(lake, limit, account))
    while follow and not ended.wait(POLL_S):
        rows, version = lake.follow(version)
        if account is not None:
            rows = rows.filter(pc.field("account") == account)
        _show(context, [from_row(row) for row in rows.sort_by("time").to_pylist()])


@traffic.command()
@click.option("--numbers-only", is_flag=True, help="Do not hash the rows again, which reads the whole lake.")
@standard_options
def verify(context: Context, numbers_only: bool) -> None:
    """Check that finished requests are recorded, once, and rows as they were written; exit with 1 when not."""
    reports = verify_traffic(context.settings)
    context.emit([vars(report) | {"sound": report.is_sound} for report in reports])
    broken = [report.stream for report in reports if not report.is_sound]
    rows = RowReport() if numbers_only else rehash(context.settings)
    if rows.places:
        context.emit(rows.places)
    if rows.unreadable:
        context.emit(rows.unreadable)
    if broken:
        context.say(
            f"Records are missing or doubled in {', '.join(broken)}: keep the data folder as it is and see above."
        )
    if not rows.is_sound:
        context.say(
            f"{rows.damaged} rows are not what was written and {len(rows.unreadable)} data files can't be read: keep "
            "the data folder as it is, see above, and restore them from a backup."
        )
    if broken or not rows.is_sound:
        sys.exit(1)
    total = sum(report.completed for report in reports)
    waiting = sum(report.waiting for report in reports)
    context.say(f"Every one of {total} finished requests is accounted for, {waiting} of them not in the lake yet.")
    if not numbers_only:
        context.say(
            f"{rows.rows} rows were hashed again and are as written; {rows.unhashed} are older than the hashes."
        )


@traffic.command()
@standard_options
def maintain(context: Context) -> None:
    """Do what each night asks for: go on with erasures, remove what is over age, put files in order."""
    around = surroundings(context, quiet_s(context.settings))
    steps = nightly(context.settings, around, context.settings.distiller.withdrawn_days)
    for report in maintain_traffic(context.settings, steps):
        context.emit([vars(report)])


@traffic.command(name="import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@standard_options
def import_file(context: Context, file: Path) -> None:
    """Import records from JSON Lines (- is stdin); bad lines are set aside, known ids are left alone."""
    with click.open_file(str(file), encoding="utf-8-sig", errors="surrogateescape") as lines:
        report = import_traffic(lines, context.settings, lambda count: context.say(f"{count} lines read"))
    context.emit_one(report.summary())
    for number, reason in report.rejected[:10]:
        context.say(f"line {number}: {reason}")


@traffic.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--account", help="Records of this account only.")
@click.option("--since", type=Moment(), help="Requests from this moment on.")
@click.option("--until", type=Moment(), help="Requests before this moment.")
@click.option("--no-text", is_flag=True, help="Leave out prompts and answers, and what may quote them.")
@standard_options
def export(
    context: Context, file: Path, account: str | None, since: datetime | None, until: datetime | None, no_text: bool
) -> None:
    """Write the lake's rows into the Parquet FILE, which appears when it is whole."""
    lake = Lake.of(context.settings)
    rows = exporting.export(lake, file, exporting.Choice(account, since, until, with_text=not no_text))
    context.emit_one({"file": str(file), "rows": rows, "bytes": file.stat().st_size})


def newest(lake: Lake, limit: int, account: str | None = None) -> list[dict[str, Any]]:
    """Return the newest records, the newest last: by day of ingestion, within a day by their own time."""
    found: list[dict[str, Any]] = []
    for ids, day in _newest_ids(lake, limit, account):
        rows = lake.read(filter=(pc.field("day") == day) & pc.field("id").isin(ids))
        records = [from_row(row) for row in rows.sort_by([("time", "ascending"), ("id", "ascending")]).to_pylist()]
        found = records + found
    return found[-limit:] if limit else []


def _newest_ids(lake: Lake, limit: int, account: str | None) -> Iterator[tuple[list[str], str]]:
    # Ids and times first: the texts of a whole day need not be read for twenty rows.
    for day in lake.days():
        if limit <= 0:
            return
        wanted = pc.field("day") == day
        if account is not None:
            wanted &= pc.field("account") == account
        times = lake.read(["id", "time"], wanted)
        ids = times.sort_by([("time", "descending"), ("id", "descending")]).slice(0, limit)["id"].to_pylist()
        limit -= len(ids)
        yield ids, day


def _show(context: Context, records: list[dict[str, Any]]) -> None:
    if context.json:
        context.emit(records)
        return
    for record in records:
        click.echo("  ".join(_cells(record)))


def _cells(record: dict[str, Any]) -> list[str]:
    usage = record.get("usage", {})
    shown = record | {
        "route": record.get("route", {}).get("reason"),
        "tokens": f"{usage.get('input_tokens', 0)}→{usage.get('output_tokens', 0)}",
        "status": record.get("error") or record.get("status"),
    }
    return [str("–" if shown.get(name) is None else shown[name]) for name in COLUMNS]
