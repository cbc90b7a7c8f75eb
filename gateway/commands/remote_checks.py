"""What `spiritsafe doctor` asks others: the control plane, the store of the limits, backends; clocks, certificates."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import ssl
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import sqlalchemy as sa

from gateway.commands.finding import Finding, Findings
from gateway.errors import GatewayError
from gateway.fleet.connection import UpstreamClient
from gateway.ledger import audit, keys
from gateway.ledger.database import Database, newest_version
from gateway.ledger.errors import LedgerError
from gateway.ledger.identifiers import now
from gateway.settings import ModelSettings, Settings, root_of

TIMEOUT_S = 5.0
MOST_APART_S = 1.0  # of clocks: limits, expiry and enforcement are kept to within a second
SOON_S = 14 * 86400.0  # a certificate that ends within these is renewed by now


def check_database(settings: Settings) -> Findings:
    """Is the control plane there, of this release's schema, of this secret's keys, and does its clock agree?

    Nothing is made and nothing is migrated.
    """
    place = sa.make_url(settings.database_url).render_as_string(hide_password=True)
    database = Database(settings.database_url)
    if not database.is_postgresql and not database.files:
        yield Finding(
            "control plane", place, "warning", "does not exist yet", "the first start makes it: spiritsafe up"
        )
        return
    try:
        yield _schema(place, database.version())
        yield from _keys_and_clock(place, database, settings)
    except sa.exc.SQLAlchemyError as error:
        remedy = "start it, or mend `database`, the network or the password; docs/runbooks/control-state-old.md"
        yield Finding("control plane", place, "error", f"can't be used: {getattr(error, 'orig', error)}", remedy)
    finally:
        database.close()


def _schema(place: str, found: str | None) -> Finding:
    newest = newest_version()
    if found == newest:
        return Finding("control plane", place, "ok", f"is of schema {found}")
    if found is not None and found > newest:
        remedy = "run the newer release that other processes of this installation run"
        return Finding("control plane", place, "error", f"is of schema {found}, this release knows {newest}", remedy)
    remedy = "make a backup (spiritsafe backup FOLDER of the release before); the next start brings it up to date"
    return Finding(
        "control plane", place, "warning", f"is of schema {found or 'none'}, this release wants {newest}", remedy
    )


def _keys_and_clock(place: str, database: Database, settings: Settings) -> Findings:
    with database.read() as connection:
        if database.version() == newest_version() and (settings.data_dir / "secret").is_file():
            try:
                keys.ensure_secret(connection, settings.data_dir)
                yield Finding("secret", "keys", "ok", "were made with the secret that is there")
            except LedgerError as error:
                found, _, remedy = str(error).partition(": ")
                yield Finding("secret", "keys", "error", found, remedy)
        newest = connection.execute(sa.select(sa.func.max(audit.table.c.time))).scalar()
        if newest is not None and (ahead := (newest - now()).total_seconds()) > MOST_APART_S:
            remedy = "set this machine's clock: run chrony or systemd-timesyncd"
            yield Finding("clock", "audit log", "error", f"its newest row is {ahead:.0f} s in the future", remedy)
        if database.is_postgresql:
            theirs = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
            yield clock(place, float(theirs))


def clock(whose: str, theirs: float) -> Finding:
    """Compare another machine's seconds since 1970 with ours."""
    apart = theirs - time.time()
    if abs(apart) <= MOST_APART_S:
        return Finding("clock", whose, "ok", "agrees with this machine's")
    remedy = "run chrony or systemd-timesyncd on both: keys, limits and decisions end by the clock"
    return Finding("clock", whose, "error", f"is {apart:+.1f} s from this machine's", remedy)


def check_limit_store(settings: Settings) -> Findings:
    """Valkey, where several gateways count together."""
    url = settings.limits.store
    if not url:
        return
    place = f"{urlsplit(url).hostname}:{urlsplit(url).port or 6379}"
    try:
        client = importlib.import_module("valkey").Valkey.from_url(url, socket_timeout=TIMEOUT_S)
        seconds, micros = client.time()
    except ModuleNotFoundError:
        yield Finding("limits", place, "error", "its client is not installed", "pip install 'spiritsafe[valkey]'")
    except Exception as error:  # noqa: BLE001, whatever the client raises means the same here
        yield Finding("limits", place, "error", f"can't be asked: {error}", "docs/runbooks/budget-store-down.md")
    else:
        yield Finding("limits", place, "ok", "answers")
        yield clock(place, seconds + micros / 1e6)


def check_backends(settings: Settings) -> Findings:
    """Does every backend live, serve the model by its name and take prompts as long as that, all in one version?"""
    yield from asyncio.run(_ask_backends([model for model in settings.models if not model.provider]))


async def _ask_backends(models: Iterable[ModelSettings]) -> Findings:
    client = UpstreamClient()
    try:
        found = [finding for model in models for finding in await _ask_model(client, model)]
    finally:
        await client.close()
    return iter(found)


async def _ask_model(client: UpstreamClient, model: ModelSettings) -> list[Finding]:
    found, versions = [], set()
    for url in map(root_of, model.urls):
        subject = f"{model.name} at {url}"
        try:
            status, body = await client.get(f"{url}/v1/models", TIMEOUT_S)
            version = await client.get(f"{url}/version", TIMEOUT_S)
        except GatewayError as error:
            remedy = "start it, or mend `backends` or the network; docs/runbooks/model-without-backend.md"
            found.append(Finding("backend", subject, "error", error.message, remedy))
            continue
        versions.add(version[1] if version[0] == 200 else b"")
        found.append(_served(model, subject, status, body))
        if url.startswith("https:"):
            found.append(await asyncio.to_thread(certificate, url))
    if len(versions) > 1:
        text = ", ".join(sorted(version.decode(errors="replace")[:40] for version in versions))
        found.append(
            Finding("backend", model.name, "warning", f"backends differ: {text}", "run one version everywhere")
        )
    return found


def _served(model: ModelSettings, subject: str, status: int, body: bytes) -> Finding:
    try:
        rows = json.loads(body)["data"] if status == 200 else []
        served = {str(row["id"]): row.get("max_model_len") for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError):
        served = {}
    if not served:
        return Finding(
            "backend", subject, "error", f"answers /v1/models with {status}", "is it vLLM that listens there?"
        )
    if model.name not in served:
        remedy = f"start vLLM with --served-model-name {model.name}, or name the model as it does"
        return Finding("backend", subject, "error", f"serves {', '.join(served)}", remedy)
    longest = served[model.name]
    if isinstance(longest, int) and longest < model.context_length:
        remedy = f"set context_length = {longest}, or start vLLM with --max-model-len {model.context_length}"
        return Finding("backend", subject, "warning", f"takes {longest} tokens of {model.context_length}", remedy)
    return Finding("backend", subject, "ok", "lives and serves the model")


def certificate(url: str) -> Finding:
    """Look at the certificate of an https URL: trusted, of that name, and not about to end."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 443
    context = ssl.create_default_context()
    try:
        plain = socket.create_connection((host, port), TIMEOUT_S)
        with plain, context.wrap_socket(plain, server_hostname=host) as secured:
            ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        remedy = "renew it, or add its authority to the system's (update-ca-certificates)"
        return Finding("certificate", url, "error", error.verify_message, remedy)
    except (OSError, KeyError) as error:
        return Finding("certificate", url, "error", f"could not be seen: {error}", "does TLS end there?")
    days = (ends - time.time()) / 86400
    if ends - time.time() < SOON_S:
        return Finding("certificate", url, "warning", f"ends in {days:.0f} days", "renew it")
    return Finding("certificate", url, "ok", f"is good for {days:.0f} days")
