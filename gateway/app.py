"""The composition root: builds every collaborator of a worker, the data plane's handlers and the FastAPI application.

Run as `python -m gateway.app --slot w0`: one worker, one process. Workers share the port (SO_REUSEPORT), so that one
dying takes only its own connections with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import click
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gateway import logs, reload
from gateway.adequacy import AdequacyFiles
from gateway.admission import Admission, Places
from gateway.authentication import ControlFollower
from gateway.errors import Draining, GatewayError, InternalError, NotRecorded, UnknownPath, WrongMethod
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.health import HealthPoller
from gateway.fleet.observation import FleetObserver
from gateway.fleet.pools import Fleet
from gateway.ledger import metric_files, secret
from gateway.ledger.control import ControlState
from gateway.ledger.disk import DiskBudget
from gateway.ledger.errors import LedgerError
from gateway.ledger.identifiers import uuid7
from gateway.ledger.registry import Student
from gateway.ledger.spool import SpoolWriter
from gateway.limits.leases import LeasedLimiter
from gateway.limits.queue import LANES, FairQueue
from gateway.limits.stores import lifetime_s, open_store
from gateway.metrics import GatewayMetrics
from gateway.pipeline import Pipeline, TracedPipeline
from gateway.protocol import welcome
from gateway.protocol.call import Call
from gateway.protocol.dialects import DIALECTS
from gateway.protocol.listener import KEEP_ALIVE_S, GatewayProtocol, Handler, listen
from gateway.protocol.origin import ClientOrigin
from gateway.protocol.preferences import inbound_request_id
from gateway.protocol.requests import Endpoint
from gateway.protocol.server import DrainingServer, Patience
from gateway.recording import Recorder
from gateway.routing import Catalogue, CheapestRouter, build_catalogue
from gateway.settings import Settings, SettingsError, load_settings
from gateway.tracing import Tracer

PUBLISH_S = 1.0
MODELS = b"/v1/models"
YOUNG = 20_000  # new objects until cycles among them are looked for; Python's 700 cost a busy worker up to a seventh
GRACE_S = 10  # more than any request under way may take when the worker is told to stop

logger = logging.getLogger(__name__)


class Worker:
    """A worker's collaborators and how long they live: `start` and `stop` on the event loop that serves requests.

    `LedgerError` with the remedy when the installation's secret can't be read: without it every key would be a 401.
    """

    def __init__(self, settings: Settings, slot: str) -> None:
        self.settings = settings
        self.slot = slot
        self._secret = secret.read(settings.data_dir)  # made by the parent: a worker never makes one of its own
        self.metrics = GatewayMetrics()
        self.fleet = Fleet()
        self._observer = FleetObserver(self.metrics)
        self._reporter = reload.Reporter(settings.data_dir, slot)
        self._models = threading.Lock()  # the control state and the settings file change them, on two threads
        self._draining = False
        self._adequacy = AdequacyFiles()
        self._context_lengths: dict[str, int] = {}
        self.catalogue: Catalogue
        self._places = Places({})
        self._use_models(settings, ())
        self.control = ControlFollower(settings.database_url, settings.gateway.snapshot_max_age_s, self._on_load)
        self.recorder = Recorder(
            self._open_spool,
            self.metrics,
            ClientOrigin(settings.gateway.trusted_proxies),
            keep_text=settings.record.text,
            serve_unrecorded=settings.gateway.on_spool_failure == "serve",
            strict=settings.spool.durability == "strict",
        )
        self._tracer = Tracer(settings.tracing, self.metrics, f"gateway-{slot}") if settings.tracing.endpoint else None
        self._disk = DiskBudget(settings.data_dir, settings.spool.budget_bytes)
        self._stopping = threading.Event()
        self._publisher = threading.Thread(target=self._publish_periodically, name="metrics", daemon=True)

    async def start(self) -> None:
        """Open connections, load the control state and begin to follow it."""
        self.client = UpstreamClient()
        self.limiter = LeasedLimiter(open_store(self.settings), lifetime_s(self.settings))
        self.admission = Admission(
            self.limiter, self.metrics, lambda model: self._context_lengths[model], lambda: self._places
        )
        kind = Pipeline if self._tracer is None else partial(TracedPipeline, tracer=self._tracer)
        self.pipeline: Pipeline = kind(
            self.settings.gateway,
            self._secret,
            self.control,
            lambda: self.catalogue,
            self.admission,
            CheapestRouter(),
            self.client,
            self.recorder,
            self.metrics,
        )
        with suppress(NotRecorded):  # logged; it is tried again with every request
            self.recorder.open()
        self.control.start()
        self._reporter.begin(self.settings.file)
        self._health = asyncio.create_task(HealthPoller(self.fleet, self.client).run())
        self._limiting = asyncio.create_task(self.limiter.run())
        self._publisher.start()
        if self._tracer is not None:
            self._tracer.start()

    async def stop(self) -> None:
        """Let go of everything; the spool is synced."""
        self._health.cancel()
        self._limiting.cancel()
        await self.client.close()
        self.control.stop()
        self._stopping.set()
        self._publisher.join(timeout=5.0)
        if self._tracer is not None:
            self._tracer.stop()
        self.recorder.close()
        await self.limiter.close()

    def check_ready(self) -> None:
        """Raise `Unavailable` when requests would be refused for our own reasons."""
        if self._draining:
            raise Draining("This worker is being stopped.")
        self.control.current()
        self.recorder.open()

    def drain(self) -> Patience:
        """Be no longer ready, while everything is still served; no request takes longer than the grace."""
        self._draining = True
        return Patience(self.settings.gateway.drain_notice_s, self.settings.longest_request_s + GRACE_S)

    def reload(self) -> None:
        """Take over the settings file, all of it or nothing; requests under way keep the pipeline they began in."""
        file = self.settings.file
        try:
            adoption = reload.adopt(self.settings, load_settings(file), {s.name for s in self.control.students})
            with self._models:
                self._take_over(adoption.settings)
        except Exception as error:
            # Whatever it is, the worker goes on with what it has; a mistake of ours shows its place in the log.
            logger.error(
                "the settings file was not taken over: %s", error, exc_info=not isinstance(error, SettingsError)
            )
            self._reporter.refused(str(error))
            return
        for name in adoption.restart:
            logger.warning("a changed setting needs a restart: %s", name)
        logger.info("the settings file was taken over", extra={"changed": list(adoption.changed)})
        self._reporter.adopted(file, adoption)

    def _take_over(self, settings: Settings) -> None:
        self._use_models(settings, self.control.students)
        self.pipeline = dataclasses.replace(self.pipeline, settings=settings.gateway)
        self.control.max_age_s = settings.gateway.snapshot_max_age_s
        self.limiter.expect(lifetime_s(settings))
        self.settings = settings

    def _on_load(self, state: ControlState) -> None:
        with self._models:
            self.fleet.drain(state.drained)
            self._use_models(self.settings, state.students)

    def _use_models(self, settings: Settings, students: Sequence[Student]) -> None:
        """Take over the models of settings and registry, wherever they are known; what is new is complete first."""
        catalogue = build_catalogue(settings, students, self.fleet, self._adequacy)
        of_students = {student.reference: student.context_length for student in students}
        self._context_lengths = {model.name: model.context_length for model in settings.models} | of_students
        self._places = Places(self._queues(settings), settings.limits.forward_priority)
        self.catalogue = catalogue

    def _queues(self, settings: Settings) -> dict[str, FairQueue]:
        """Return the queues of the models that have a bound; those there were go on, by the bounds of now."""
        limits, bound = settings.limits, settings.gateway.max_in_flight
        own = {model.name: model.max_in_flight for model in settings.models}
        bounds = {name: own.get(name) or bound for name in self._context_lengths}
        found: dict[str, FairQueue] = {}
        for name, capacity in bounds.items():
            if capacity:
                wanted = capacity, limits.queue_length, limits.queue_wait_s
                queue = found[name] = self._places.queues.get(name) or FairQueue(*wanted)
                queue.adjust(*wanted)
        return found

    def _open_spool(self) -> SpoolWriter:
        spool = self.settings.spool
        return SpoolWriter(
            self.settings.data_dir / "spool",
            self.slot,
            segment_bytes=spool.segment_bytes,
            group_commit_s=spool.group_commit_ms / 1000,
            wait_s=0.0,  # called on the event loop; it is tried again
            has_room=self._disk.has_room,
        )

    def _publish_periodically(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(PUBLISH_S)
            try:
                self._observe()
                metric_files.publish(self.settings.data_dir / "metrics", f"gateway-{self.slot}", self.metrics.registry)
            except OSError as error:
                logger.warning("metrics could not be published: %s", error)

    def _observe(self) -> None:
        age = self.control.age_s
        self.metrics.control_age.set(-1.0 if age == float("inf") else age)
        self.metrics.limit_store_up.set(self.limiter.available)
        self.metrics.spool_sync_failures.count = self.recorder.sync_failures
        if self._disk.budget_bytes:
            self._disk.measure()
        for name, queue in self._places.queues.items():
            for lane in LANES:
                self.metrics.queue_length.labels(name, lane).set(queue.waiting(lane))
        catalogue = self.catalogue
        self._observer.observe(catalogue.pools())
        self._observer.show_prices(catalogue.prices())


class DataPlane:
    """The handlers of the data plane's requests, by method and path."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._handlers: dict[tuple[bytes, bytes], Handler] = {
            (b"POST", dialect.path.encode()): self._inference(endpoint) for endpoint, dialect in DIALECTS.items()
        }
        self._handlers[b"GET", MODELS] = self._list_models
        self.paths = {path.decode() for _, path in self._handlers}

    def find(self, method: bytes, path: bytes) -> Handler | None:
        """Return the handler of a request; None: it is not the data plane's."""
        found = self._handlers.get((method, path))
        if found is None and method == b"GET" and path.startswith(MODELS + b"/"):
            return self._show_model
        return found

    def _inference(self, endpoint: Endpoint) -> Handler:
        return lambda call: self._worker.pipeline.handle(endpoint, call)

    async def _list_models(self, call: Call) -> None:
        await self._worker.pipeline.list_models(call)

    async def _show_model(self, call: Call) -> None:
        name = unquote(call.head.path.removeprefix(MODELS + b"/").decode("latin-1"))
        await self._worker.pipeline.list_models(call, name)


def create_app(settings: Settings, *, slot: str = "w0") -> FastAPI:
    """Build a worker's application; its collaborators start and stop with the application's lifespan."""
    worker = Worker(settings, slot)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await worker.start()
        try:
            yield
        finally:
            await worker.stop()

    # No schema, no documentation pages: the API is OpenAI's, and `server_config` takes it past this application.
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.worker = worker
    app.state.data_plane = DataPlane(worker)
    _add_probes(app, worker)
    _add_error_answers(app)
    return app


def server_config(app: FastAPI, grace_s: int = GRACE_S) -> uvicorn.Config:
    """Return how an application is served: its data plane's requests go straight to their handlers."""
    return uvicorn.Config(
        app,
        http=partial(GatewayProtocol, app.state.data_plane.find),  # type: ignore[arg-type]
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )


def _add_probes(app: FastAPI, worker: Worker) -> None:
    @app.get("/")
    async def root(request: Request) -> Response:
        paths, where = app.state.data_plane.paths, worker.settings.gateway.help_url
        headers = welcome.HEADERS | _id_header(request)
        if "text/html" in request.headers.get("accept", ""):
            return Response(welcome.as_html(paths, where), headers=headers, media_type="text/html")
        return Response(welcome.as_json(paths, where), headers=headers, media_type="application/json")

    @app.get("/health")
    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=_id_header(request))

    @app.get("/ready")
    async def ready(request: Request) -> Response:
        try:
            worker.check_ready()
        except GatewayError as error:
            return _answer(request, error)
        return JSONResponse({"status": "ready"}, headers=_id_header(request))


def _add_error_answers(app: FastAPI) -> None:
    """Answer what Starlette itself refuses in OpenAI's form too."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path}"
        if error.status_code == 405 or request.url.path in app.state.data_plane.paths:
            return _answer(request, WrongMethod(f"Not allowed: {where}. See GET /v1/models for the way in."))
        return _answer(request, UnknownPath(f"Unknown request URL: {where}. Please check the URL for typos."))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _answer(request, InternalError(_id_header(request)["x-request-id"]))


def _answer(request: Request, error: GatewayError) -> Response:
    identity = _id_header(request)
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    request_id = identity["x-request-id"]
    like_anthropic = request.url.path.startswith(DIALECTS["messages"].path)
    body = DIALECTS["messages" if like_anthropic else "chat.completions"].errors.body(error, request_id)
    return Response(body, error.answer_status, identity | headers, "application/json")


def _id_header(request: Request) -> dict[str, str]:
    return {"x-request-id": inbound_request_id(dict(request.scope["headers"])) or uuid7()}


def serve(settings: Settings, slot: str) -> None:
    """Serve until SIGTERM or SIGINT; answers under way are finished."""
    listener = listen(settings.gateway.host, settings.gateway.port)
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"url": f"http://{host}:{port}", "slot": slot})
    app = create_app(settings, slot=slot)
    worker: Worker = app.state.worker
    server = DrainingServer(server_config(app), worker.drain, worker.reload)
    _look_for_cycles_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))


def _look_for_cycles_seldom() -> None:
    """Spare requests a search through what is there for good; what they make themselves refers to itself nowhere."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


@click.command()
@click.option("--slot", default="w0", show_default=True, help="The worker's spool slot; each has one writer.")
@click.option("--config", type=click.Path(path_type=Path), default=None, help="The settings file [spiritsafe.toml].")
def main(slot: str, config: Path | None) -> None:
    """Run one worker of the public endpoint."""
    logs.configure(f"gateway-{slot}")
    try:
        serve(load_settings(config), slot)
    except SettingsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (LedgerError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
