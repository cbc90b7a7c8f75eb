"""The composition root: builds every collaborator of a worker and the FastAPI application around the data plane.

Run as `python -m gateway.app --slot w0`: one worker, one process. Workers share the port (SO_REUSEPORT), so that one
dying takes only its own connections with it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import click
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway import logs
from gateway.adequacy import AdequacyFiles
from gateway.authentication import ControlFollower
from gateway.errors import GatewayError, InternalError, NotRecorded, UnknownPath, WrongMethod
from gateway.fleet.backends import Fleet
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.health import HealthPoller
from gateway.ledger import metric_files
from gateway.ledger.control import ControlState
from gateway.ledger.errors import LedgerError
from gateway.ledger.identifiers import uuid7
from gateway.ledger.keys import installation_secret
from gateway.ledger.spool import SpoolWriter
from gateway.limits.bucket import RequestLimiter
from gateway.metrics import GatewayMetrics
from gateway.pipeline import Pipeline
from gateway.protocol.dialects import DIALECTS
from gateway.protocol.listener import KEEP_ALIVE_S, BoundedHttpProtocol, listen
from gateway.protocol.origin import ClientOrigin
from gateway.protocol.preferences import inbound_request_id
from gateway.protocol.requests import Endpoint
from gateway.recording import Recorder
from gateway.routing import Catalogue, CheapestRouter, build_catalogue
from gateway.settings import Settings, SettingsError, load_settings

PUBLISH_S = 1.0
GRACE_S = 30  # for answers under way when the worker is told to stop

logger = logging.getLogger(__name__)


class Worker:
    """A worker's collaborators and how long they live: `start` and `stop` on the event loop that serves requests."""

    def __init__(self, settings: Settings, slot: str) -> None:
        self.settings = settings
        self.slot = slot
        self.metrics = GatewayMetrics()
        self.fleet = Fleet()
        self._adequacy = AdequacyFiles()
        self.catalogue: Catalogue = build_catalogue(settings, (), self.fleet, self._adequacy)
        self.control = ControlFollower(settings.database_url, settings.gateway.snapshot_max_age_s, self._on_load)
        self.recorder = Recorder(
            self._open_spool,
            self.metrics,
            ClientOrigin(settings.gateway.trusted_proxies),
            keep_text=settings.record.text,
            serve_unrecorded=settings.gateway.on_spool_failure == "serve",
        )
        self._stopping = threading.Event()
        self._publisher = threading.Thread(target=self._publish_periodically, name="metrics", daemon=True)

    async def start(self) -> None:
        """Open connections, load the control state and begin to follow it."""
        self.client = UpstreamClient()
        self.pipeline = Pipeline(
            self.settings.gateway,
            installation_secret(self.settings.data_dir),
            self.control,
            lambda: self.catalogue,
            RequestLimiter(self.settings.gateway.workers),
            CheapestRouter(),
            self.client,
            self.recorder,
            self.metrics,
        )
        with suppress(NotRecorded):  # logged; it is tried again with every request
            self.recorder.open()
        self.control.start()
        self._health = asyncio.create_task(HealthPoller(self.fleet, self.client).run())
        self._publisher.start()

    async def stop(self) -> None:
        """Let go of everything; the spool is synced."""
        self._health.cancel()
        await self.client.close()
        self.control.stop()
        self._stopping.set()
        self._publisher.join(timeout=5.0)
        self.recorder.close()

    def check_ready(self) -> None:
        """Raise `Unavailable` when requests would be refused for our own reasons."""
        self.control.current()
        self.recorder.open()

    def _on_load(self, state: ControlState) -> None:
        self.catalogue = build_catalogue(self.settings, state.students, self.fleet, self._adequacy)

    def _open_spool(self) -> SpoolWriter:
        spool = self.settings.spool
        return SpoolWriter(
            self.settings.data_dir / "spool",
            self.slot,
            segment_bytes=spool.segment_bytes,
            group_commit_s=spool.group_commit_ms / 1000,
            wait_s=0.0,  # called on the event loop; it is tried again
        )

    def _publish_periodically(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(PUBLISH_S)
            self._observe()
            try:
                metric_files.publish(self.settings.data_dir / "metrics", f"gateway-{self.slot}", self.metrics.registry)
            except OSError as error:
                logger.warning("metrics could not be published: %s", error)

    def _observe(self) -> None:
        age = self.control.age_s
        self.metrics.control_age.set(-1.0 if age == float("inf") else age)
        # Students come and go with their ports: what is not among the models now is no series any more.
        self.metrics.backend_up.clear()
        self.metrics.backend_inflight.clear()
        for model, pool in self.catalogue.pools():
            for backend in pool.backends:
                self.metrics.backend_up.labels(model, backend.url).set(backend.up)
                self.metrics.backend_inflight.labels(model, backend.url).set(backend.inflight)


class DataPlane:
    """One path of the data plane as an ASGI endpoint."""

    def __init__(self, worker: Worker, endpoint: Endpoint | None) -> None:
        self._worker = worker
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the pipeline."""
        if self._endpoint is None:
            await self._worker.pipeline.list_models(scope, send)
        else:
            await self._worker.pipeline.handle(self._endpoint, scope, receive, send)


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

    # No schema, no documentation pages: the API is OpenAI's. Handlers of FastAPI serve /health and /ready only.
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.worker = worker
    app.router.routes += [
        *(Route(dialect.path, DataPlane(worker, endpoint), methods=["POST"]) for endpoint, dialect in DIALECTS.items()),
        Route("/v1/models", DataPlane(worker, None), methods=["GET"]),
        Route("/v1/models/{model:path}", DataPlane(worker, None), methods=["GET"]),
    ]
    _add_probes(app, worker)
    _add_error_answers(app)
    return app


def _add_probes(app: FastAPI, worker: Worker) -> None:
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
        if error.status_code == 405:
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
    config = uvicorn.Config(
        create_app(settings, slot=slot),
        http=BoundedHttpProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


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
