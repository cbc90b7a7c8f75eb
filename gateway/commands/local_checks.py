"""What `spiritsafe doctor` looks at on this machine: interpreter, files and their modes, disk, spool, processes."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from pathlib import Path

import sqlalchemy as sa

from gateway.commands.finding import Finding, Findings, State
from gateway.ledger import house_status, secret
from gateway.ledger.disk import DiskBudget
from gateway.ledger.errors import SecretLost
from gateway.settings import Settings, SettingsError, read_secret

OLDEST_PYTHON = (3, 11)
LEAST_FREE = 0.05  # of the disk and of its inodes
NEARLY = 0.9  # of the disk budget
QUIET_S = 60.0  # without new metrics of a process; the detector may take longer for a round
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_python() -> Findings:
    """The interpreter that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield Finding("python", version, "error", "is too old", "run Spiritsafe with Python 3.11 or later")
    else:
        yield Finding("python", version, "ok", "is supported")


def check_settings(settings: Settings) -> Findings:
    """What can be read, and can't be meant."""
    file = settings.file
    where = str(file)
    if file is None or not file.exists():
        yield Finding(
            "settings", where, "warning", "does not exist: defaults serve", "write one, or name it by --config"
        )
        return
    if _others_may(file, stat.S_IRGRP | stat.S_IROTH) and _holds_a_secret(settings):
        yield Finding(
            "settings", where, "error", "holds a password or token and others may read it", f"chmod 600 {where}"
        )
    else:
        yield Finding("settings", where, "ok", "is valid")
    operator = settings.operator
    if operator.host not in LOOPBACK and not operator.scrape_token:
        remedy = "set operator.scrape_token, and give it to Prometheus"
        yield Finding("settings", "operator.host", "warning", f"{operator.host} shows /metrics to whoever asks", remedy)
    for model in settings.models:
        if model.api_key_env:
            yield _provider_key(model.name, model.api_key_env)


def check_data_dir(settings: Settings) -> Findings:
    """The one folder that everything writes to."""
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding(
            "data_dir", str(folder), "warning", "does not exist yet", "the first start makes it: spiritsafe up"
        )
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        remedy = "run this as the house's user, or give it the folder: chown -R USER " + str(folder)
        yield Finding("data_dir", str(folder), "error", "can't be read and written", remedy)
        return
    if _others_may(folder, stat.S_IWOTH | stat.S_IROTH):
        yield Finding("data_dir", str(folder), "warning", "others may look into it", f"chmod o-rwx {folder}")
    else:
        yield Finding("data_dir", str(folder), "ok", "can be written, by its owner alone")


def check_secret(settings: Settings) -> Findings:
    """The file without which no key is valid; whether it fits the keys, the check of the database says."""
    path = secret.path_of(settings.data_dir)
    if not settings.data_dir.is_dir():
        return
    try:
        secret.read(settings.data_dir)
    except SecretLost as error:
        if not any(settings.data_dir.glob("control.sqlite")) and not settings.database:
            yield Finding(
                "secret", str(path), "warning", "does not exist yet", "the first start makes it: spiritsafe up"
            )
        else:
            yield Finding("secret", str(path), "error", str(error).partition(":")[0], secret.REMEDY)
    except PermissionError:
        yield Finding("secret", str(path), "error", "can't be read", "run this as the house's user")
    else:
        if _others_may(path, stat.S_IRWXG | stat.S_IRWXO):
            yield Finding("secret", str(path), "error", "others may read it", f"chmod 600 {path}")
        else:
            yield Finding("secret", str(path), "ok", "is there, for its owner alone")


def check_disk(settings: Settings) -> Findings:
    """Room on the disk and in the budget."""
    folder = _existing(settings.data_dir)
    usage, files = shutil.disk_usage(folder), os.statvfs(folder)
    free = usage.free / usage.total
    text = f"{usage.free / 1e9:.1f} GB free, {free:.0%}"
    remedy = (
        "make room: spiritsafe traffic maintain, shorter [retention], a larger disk; docs/runbooks/records-dropped.md"
    )
    if free < LEAST_FREE:
        yield Finding("disk", str(folder), "error", text, remedy)
    else:
        yield Finding("disk", str(folder), "ok", text)
    if files.f_files and files.f_favail / files.f_files < LEAST_FREE:
        yield Finding("disk", str(folder), "error", f"{files.f_favail} inodes left", remedy)
    budget = DiskBudget(settings.data_dir, settings.spool.budget_bytes)
    if budget.budget_bytes:
        budget.measure()
        text = f"{budget.used_bytes / 1e9:.1f} of {budget.budget_bytes / 1e9:.1f} GB used"
        near = budget.used_bytes > NEARLY * budget.budget_bytes
        remedy = "docs/runbooks/disk-budget-runs-out.md"
        yield Finding("disk", "spool.budget_bytes", "error" if near else "ok", text, remedy if near else "")


def check_spool(settings: Settings) -> Findings:
    """Segments that were kept because bytes in them made no frame."""
    torn = sorted((settings.data_dir / "spool").glob("*/*.torn"))
    if torn:
        remedy = "spiritsafe traffic verify; docs/runbooks/spool-damaged.md"
        yield Finding("spool", str(torn[0]), "warning", f"{len(torn)} damaged segments were kept", remedy)


def check_processes(settings: Settings) -> Findings:
    """What `spiritsafe up` says of its processes, and whether each still publishes its metrics."""
    status = house_status.read(settings.data_dir)
    if status is None or not status.running:
        yield Finding("processes", "spiritsafe up", "warning", "does not run on this folder", "start it, if it should")
        return
    for process in status.processes:
        if process.state == "ready":
            yield Finding("processes", process.name, "ok", f"ready, process {process.pid}")
        else:
            text = f"{process.state}: {process.error}" if process.error else process.state
            state: State = "warning" if process.state == "starting" else "error"
            remedy = f"read {process.log}; docs/runbooks/process-down.md"
            yield Finding("processes", process.name, state, text, remedy)
    for file in (settings.data_dir / "metrics").glob("*-*-*.json"):
        quiet_s = time.time() - file.stat().st_mtime
        name, pid = file.stem.rsplit("-", 2)[:2]
        if quiet_s > QUIET_S and Path(f"/proc/{pid}").exists():
            text = f"has published nothing for {quiet_s:.0f} s"
            yield Finding("processes", name, "warning", text, "docs/runbooks/process-hangs.md")


def _provider_key(model: str, name: str) -> Finding:
    try:
        read_secret(name)
    except SettingsError:
        remedy = f"export {name} where the gateway starts; this shell may lack what the service has"
        return Finding("settings", f"models.{model}", "warning", f"{name} is not set here", remedy)
    return Finding("settings", f"models.{model}", "ok", f"{name} is set")


def _holds_a_secret(settings: Settings) -> bool:
    stores = [url for url in (settings.database, settings.limits.store) if url]
    in_urls = any("@" in url and ":" in url.split("@")[0].split("//")[-1] for url in stores)
    return in_urls or bool(settings.operator.scrape_token) or bool(sa.make_url(settings.database_url).password)


def _others_may(path: Path, what: int) -> bool:
    return bool(path.stat().st_mode & what)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
