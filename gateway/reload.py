"""Live reload: which settings change while the gateway serves, how workers are asked, and what they say of it.

Each worker keeps a report in `data_dir/run/reload/`: which file it runs with, and how its last reload went. Asking
means SIGHUP to every worker whose report names a living process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.metric_files import started_at
from gateway.settings import GatewaySettings, ModelSettings, Settings, SettingsError

# Of `[gateway]`; besides these, all of `[[models]]` but `serve`. Everything else needs a restart, and is named.
LIVE = frozenset(
    (
        *("max_body_bytes", "body_timeout_s", "first_token_timeout_s", "total_timeout_s", "ping_interval_s"),
        *("drain_notice_s", "snapshot_max_age_s", "help_url"),
    )
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adoption:
    """What becomes of a new settings file: the `settings` to go on with, what `changed`, and what needs a `restart`."""

    settings: Settings
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def adopt(old: Settings, new: Settings, students: Iterable[str] = ()) -> Adoption:
    """Take over what can change live; what can't stays as it was, so that it is named again until the restart.

    `SettingsError` when a new model has the name of one of the registry's `students`: a request could mean either.
    """
    both = sorted({model.name for model in new.models} & set(students))
    if both:
        raise SettingsError(f"{new.file}: models: {both[0]!r} is also the name of a student: rename the model")
    gateway = {name: getattr(new.gateway, name) for name in LIVE}
    models = tuple(_with_old_serve(model, old.model(model.name)) for model in new.models)
    settings = dataclasses.replace(old, models=models, gateway=dataclasses.replace(old.gateway, **gateway))
    restart = [*_sections(settings, new), *_served(settings, new)]
    return Adoption(settings, (*_sections(old, settings), *_models(old, settings)), tuple(restart))


def _with_old_serve(model: ModelSettings, known: ModelSettings | None) -> ModelSettings:
    return model if known is None else dataclasses.replace(model, serve=known.serve)


def _sections(one: Settings, other: Settings) -> list[str]:
    """Return the keys in which two differ, but for the models."""
    found: list[str] = []
    for field in dataclasses.fields(Settings):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine == theirs or field.name in ("models", "file"):
            continue
        if not dataclasses.is_dataclass(mine):
            found.append(field.name)
            continue
        keys = [item.name for item in dataclasses.fields(mine)]
        found += [f"{field.name}.{key}" for key in keys if getattr(mine, key) != getattr(theirs, key)]
    return found


def _models(one: Settings, other: Settings) -> list[str]:
    names = dict.fromkeys(model.name for model in (*one.models, *other.models))
    return [f"models.{name}" for name in names if one.model(name) != other.model(name)]


def _served(settings: Settings, new: Settings) -> list[str]:
    """Return the models whose supervised vLLM would have to be started, stopped or changed."""
    before = {model.name: model.serve for model in settings.models}
    changed = [model.name for model in new.models if model.serve != before.get(model.name)]
    return [f"models.{name}.serve" for name in changed]


@dataclass(frozen=True)
class Report:
    """What a worker says: `number` counts its reloads, `digest` is of the file that it runs with.

    `error` is why the last reload changed nothing, or None.
    """

    slot: str
    pid: int
    started: int
    number: int
    digest: str
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    error: str | None = None


class Reporter:
    """Keeps one worker's report."""

    def __init__(self, data_dir: Path, slot: str) -> None:
        self._path = _folder(data_dir) / f"{slot}.json"
        self._report = Report(slot, os.getpid(), started_at(os.getpid()), 0, "")

    def begin(self, file: Path | None) -> None:
        """Say which file this worker has started with."""
        self._write(dataclasses.replace(self._report, digest=digest_of(file)))

    def adopted(self, file: Path | None, adoption: Adoption) -> None:
        """Say what a reload changed."""
        self._write(
            dataclasses.replace(
                self._report,
                number=self._report.number + 1,
                digest=digest_of(file),
                changed=adoption.changed,
                restart=adoption.restart,
                error=None,
            )
        )

    def refused(self, error: str) -> None:
        """Say why a reload changed nothing."""
        number = self._report.number + 1
        self._write(dataclasses.replace(self._report, number=number, changed=(), restart=(), error=error))

    def _write(self, report: Report) -> None:
        self._report = report
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(dataclasses.asdict(report)))
            temporary.replace(self._path)
        except OSError as error:
            # A full disk must not keep a worker from serving; it can't be asked to reload until there is room.
            logger.error("the report on the settings could not be written: %s", error)


def digest_of(file: Path | None) -> str:
    """Return the SHA-256 of a settings file, or an empty text where there is none."""
    try:
        return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def reports(data_dir: Path) -> list[Report]:
    """Return the reports of the workers that are alive, by slot."""
    found: list[Report] = []
    for path in sorted(_folder(data_dir).glob("*.json")):
        row = json.loads(path.read_text())
        report = Report(**row | {"changed": tuple(row["changed"]), "restart": tuple(row["restart"])})
        if started_at(report.pid) == report.started:
            found.append(report)
    return found


def ask(data_dir: Path) -> list[Report]:
    """Ask every living worker to reload; return what they said before."""
    asked = reports(data_dir)
    for report in asked:
        with suppress(ProcessLookupError):  # it ended at this very moment; its successor reads the file anyway
            os.kill(report.pid, signal.SIGHUP)
    return asked


def _folder(data_dir: Path) -> Path:
    return data_dir / "run" / "reload"


assert {field.name for field in dataclasses.fields(GatewaySettings)} >= LIVE
