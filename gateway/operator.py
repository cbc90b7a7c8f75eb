"""The operator process: the admin API, the console and `/metrics` of all processes, on a port of its own.

The console comes by the entry point group `spiritsafe.operator_apps`, whose members are functions
`mount(app, settings, database)`; one that can't be loaded is logged and the rest stands.
"""

from __future__ import annotations

import hmac
import logging
import time
from importlib.metadata import entry_points
from typing import Annotated, get_args

import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, Gauge

from gateway import admin
from gateway.ledger import alerts, canaries, metric_files, registry, snapshots
from gateway.ledger.canaries import Canary
from gateway.ledger.database import Database, open_database
from gateway.ledger.identifiers import from_rfc3339, now
from gateway.ledger.keys import ensure_secret
from gateway.ledger.registry import State, Student
from gateway.settings import Settings

GROUP = "spiritsafe.operator_apps"
LEAKED = "leaked_tokens"  # in an alert's evidence
MANY = 2000  # open alerts; with more of them adding up takes longer than the rest of a scrape …
RESTS = 100  # … and is not done again for so many times as long
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_logger = logging.getLogger(__name__)


class Figures:
    """What the operator process itself adds to the metrics: figures that stand in the database."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._rests_until = 0.0
        self.open_alerts = Gauge(
            "spiritsafe_open_alerts",
            "Alerts that wait for a decision, by severity; absent while the database is away.",
            ["severity"],
            registry=registry,
        )
        self.leaked_tokens = Gauge(
            "spiritsafe_open_alerts_leaked_tokens",
            "Tokens of answers new to their account that the accounts of open alerts have drawn.",
            ["severity"],
            registry=registry,
        )
        self.students = Gauge("spiritsafe_students", "Students, by state.", ["state"], registry=registry)
        self.snapshots = Gauge(
            "spiritsafe_snapshots", "Training snapshots, by state waiting or approved.", ["state"], registry=registry
        )
        self.gate_report_age = Gauge(
            "spiritsafe_gate_report_age_seconds",
            "Age of the gate report that a promoted student stands on.",
            ["model"],
            registry=registry,
        )
        self.canaries_missed = Gauge(
            "spiritsafe_detector_canaries_missed",
            "Canaries whose newest run raised no alert; 0 without a canary.",
            registry=registry,
        )
        self.canary_age = Gauge(
            "spiritsafe_detector_canary_age_seconds",
            "Time since a canary was last found, of the one that waits longest; 0 without a canary.",
            registry=registry,
        )
        self.canary_requests = Gauge(
            "spiritsafe_detector_canary_requests",
            "Requests of a canary before its newest alert, of the one that needed most.",
            registry=registry,
        )
        self.canary_seconds = Gauge(
            "spiritsafe_detector_canary_seconds",
            "Time from a canary's first request to its newest alert, of the one that waited longest.",
            registry=registry,
        )

    def update(self, database: Database) -> None:
        """Count what is there now; while the database is away nothing is said of it, and the rest can be scraped.

        Where there are many alerts the figures then stay as they are for a while.
        """
        began = time.monotonic()
        if began < self._rests_until:
            return
        try:
            with database.read() as connection:
                opened = _open_alerts(connection, database.is_postgresql)
                students = registry.every(connection)
                approved = [approval is not None for _, approval in snapshots.every(connection)]
                flown = canaries.every(connection)
        except sa.exc.SQLAlchemyError as error:
            _logger.warning("what stands in the database could not be counted: %s", error)
            for gauge in (self.open_alerts, self.leaked_tokens, self.students, self.snapshots, self.gate_report_age):
                gauge.clear()
            return
        for severity in alerts.SEVERITIES:
            count, leaked = opened.get(severity, (0, 0.0))
            self.open_alerts.labels(severity).set(count)
            self.leaked_tokens.labels(severity).set(leaked)
        self.snapshots.labels("approved").set(sum(approved))
        self.snapshots.labels("waiting").set(len(approved) - sum(approved))
        self._show(students)
        self._show_canaries(flown)
        if sum(count for count, _ in opened.values()) > MANY:
            self._rests_until = began + RESTS * (time.monotonic() - began)

    def _show_canaries(self, flown: list[Canary]) -> None:
        moment = now()
        self.canaries_missed.set(sum(canary.problem is not None for canary in flown))
        ages = [(moment - (canary.found or canary.created)).total_seconds() for canary in flown]
        self.canary_age.set(max(ages, default=0.0))
        self.canary_requests.set(max((canary.requests or 0 for canary in flown), default=0))
        self.canary_seconds.set(max((canary.seconds or 0.0 for canary in flown), default=0.0))

    def _show(self, students: list[Student]) -> None:
        for state in get_args(State):
            self.students.labels(state).set(sum(student.state == state for student in students))
        self.gate_report_age.clear()
        for student in students:
            evaluated = (student.gate or {}).get("evaluated")
            if student.state == "promoted" and evaluated is not None:
                age = (now() - from_rfc3339(evaluated)).total_seconds()
                self.gate_report_age.labels(student.reference).set(age)


def _open_alerts(connection: sa.Connection, on_postgresql: bool) -> dict[str, tuple[int, float]]:
    """Return by severity how many alerts are open and what leaked by them; the database adds up, whatever there is."""
    table = alerts.table
    evidence = sa.type_coerce(table.c.evidence, sa.Text())
    if on_postgresql:
        leaked = sa.cast(sa.func.json_extract_path_text(sa.cast(evidence, sa.JSON()), LEAKED), sa.Float())
    else:
        leaked = sa.cast(sa.func.json_extract(evidence, f"$.{LEAKED}"), sa.Float())
    query = sa.select(table.c.severity, sa.func.count(), sa.func.coalesce(sa.func.sum(leaked), 0.0))
    rows = connection.execute(query.where(table.c.state == "open").group_by(table.c.severity))
    return {severity: (count, total) for severity, count, total in rows}


def create_app(settings: Settings, database: Database) -> FastAPI:
    """Compose the operator process's application."""
    app = FastAPI(title="Spiritsafe operator process", docs_url=None, redoc_url=None, openapi_url=None)
    figures = Figures()

    @app.get("/health")
    def health() -> dict[str, str]:
        """Answer as soon as the process serves."""
        return {"status": "ok"}

    @app.get("/metrics")
    def metrics(authorization: Annotated[str, Header()] = "") -> Response:
        """Write all processes' metrics; with `operator.scrape_token` set, only for that bearer token."""
        expected = f"Bearer {settings.operator.scrape_token}"
        if settings.operator.scrape_token and not hmac.compare_digest(
            # Headers arrive decoded as Latin-1; the token is compared as the bytes that were sent.
            authorization.encode("latin-1"),
            expected.encode(),
        ):
            message = "/metrics asks for operator.scrape_token as a bearer token"
            body = {"error": {"message": message, "type": "authentication_error"}}
            return JSONResponse(body, 401, {"www-authenticate": "Bearer"})
        figures.update(database)
        directory = settings.data_dir / "metrics"
        metric_files.publish(directory, "operator", figures.registry)
        return PlainTextResponse(metric_files.merge(directory), media_type=CONTENT_TYPE)

    app.mount("/admin/v1", admin.create_app(settings, database))
    _mount_contributed(app, settings, database)
    return app


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    database = open_database(settings.database_url)
    try:
        with database.read() as connection:
            ensure_secret(connection, settings.data_dir)
        app = create_app(settings, database)
        uvicorn.run(
            app,
            host=settings.operator.host,
            port=settings.operator.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    finally:
        database.close()


def _mount_contributed(app: FastAPI, settings: Settings, database: Database) -> None:
    for point in entry_points(group=GROUP):
        try:
            point.load()(app, settings, database)
        except Exception:
            _logger.exception(
                "a page could not be mounted, the rest of the operator process serves", extra={"page": point.name}
            )
