"""What `spiritsafe up` is keeping, as a file that the other processes read: `data_dir/run/status.json`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from gateway.ledger.identifiers import from_rfc3339, now, to_rfc3339

Kind = Literal["gateway", "ingester", "operator", "service", "model"]
State = Literal["starting", "ready", "silent", "waiting", "stopped"]
STATES: tuple[State, ...] = get_args(State)
# The house rewrites the file at least every two seconds, so a file this old has no house behind it.
STALE_AFTER = timedelta(seconds=10)


@dataclass(frozen=True)
class ProcessStatus:
    """One process of the house.

    `state`: `starting`, `ready`, `silent` (it does not answer just now), `waiting` (it ended or never started; `error`
    says why, and it is tried again) or `stopped`. `url` is where it listens, `restarts` how often it was started again,
    `log` its log file.
    """

    name: str
    kind: Kind
    state: State
    since: datetime
    pid: int | None
    restarts: int
    url: str | None
    log: str
    error: str | None = None


@dataclass(frozen=True)
class HouseStatus:
    """The house at a moment: `pid` is that of `spiritsafe up`."""

    time: datetime
    pid: int
    processes: tuple[ProcessStatus, ...]

    @property
    def running(self) -> bool:
        """Whether the house that wrote this is still there: it writes often, and says when it stops."""
        fresh = now() - self.time < STALE_AFTER
        return fresh and any(process.state != "stopped" for process in self.processes)


def path(data_dir: Path) -> Path:
    """Return where the status stands."""
    return data_dir / "run" / "status.json"


def write(data_dir: Path, status: HouseStatus) -> None:
    """Replace the status file atomically."""
    document = asdict(status) | {"time": to_rfc3339(status.time)}
    for process in document["processes"]:
        process["since"] = to_rfc3339(process["since"])
    file = path(data_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".status.{os.getpid()}")
    temporary.write_text(json.dumps(document))
    temporary.replace(file)


def read(data_dir: Path) -> HouseStatus | None:
    """Return the last status written, or None when no house ever ran here."""
    try:
        document = json.loads(path(data_dir).read_text())
    except FileNotFoundError:
        return None
    processes = tuple(ProcessStatus(**row | {"since": from_rfc3339(row["since"])}) for row in document["processes"])
    return HouseStatus(from_rfc3339(document["time"]), document["pid"], processes)
