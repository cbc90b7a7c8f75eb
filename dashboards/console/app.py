"""Composition root of the console: builds what the pages read from and adds them to the operator process."""

from __future__ import annotations

import logging
import threading
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from dashboards.console import drawing, words
from dashboards.console.headers import SecurityHeaders
from dashboards.console.pages import accounts, alerts, audit, bulk, channels, login, models, policies, queue, snapshots
from dashboards.console.sessions import Sessions, Throttle
from dashboards.console.traffic import Traffic
from dashboards.console.visit import Console, LogInNeeded, Refused, go
from dashboards.notifications import service as notifications
from gateway.ledger.database import Database
from gateway.ledger.errors import LedgerError, NotFound
from gateway.ledger.keys import ensure_secret
from gateway.ledger.lake import Lake
from gateway.settings import Settings

HERE = Path(__file__).parent
STATIC = "/static"
LOG = logging.getLogger("spiritsafe.console")
HEADINGS = {
    403: "That was refused",
    404: "There is nothing here",
    405: "That page takes no such request",
    409: "That is not possible",
    422: "That form was incomplete",
}


def mount(app: FastAPI, settings: Settings, database: Database) -> None:
    """Add the console at `/` and start telling people of alerts where the settings say so.

    Call it after every other route: it answers whatever they leave, with its own 404.
    """
    notifications.start(settings, database, threading.Event())
    app.mount("/", SecurityHeaders(create_console(settings, database), STATIC), name="console")


def create_console(settings: Settings, database: Database) -> FastAPI:
    """Build the console as an application of its own, so that its errors are pages and the admin API's stay JSON."""
    console = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    with database.read() as connection:
        sessions = Sessions(ensure_secret(connection, settings.data_dir), settings.operator.session_hours)
    console.state.console = Console(
        settings=settings,
        database=database,
        traffic=Traffic(Lake.of(settings)),
        sessions=sessions,
        by_name=Throttle(limit=5),
        by_address=Throttle(limit=20),
        templates=_templates(),
    )
    for page in (login, queue, bulk, alerts, accounts, models, snapshots, policies, audit, channels):
        console.include_router(page.router)
    console.mount(STATIC, StaticFiles(directory=HERE / "static"), name="static")
    console.add_exception_handler(LogInNeeded, _to_login)
    console.add_exception_handler(Refused, _refused)
    console.add_exception_handler(LedgerError, _ledger_error)
    console.add_exception_handler(HTTPException, _http_error)
    console.add_exception_handler(Exception, _broken)
    return console


@cache
def _templates() -> Jinja2Templates:
    # Compiled once per process, however many consoles the tests build in it.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(drawing=drawing)
    return Jinja2Templates(env=environment)


def _to_login(_request: Request, error: Exception) -> Response:
    target = getattr(error, "target", "/")
    return go("/login" if target == "/" else f"/login?next={target}")


def _refused(request: Request, error: Exception) -> Response:
    return _error_page(request, 403, str(error))


def _ledger_error(request: Request, error: Exception) -> Response:
    return _error_page(request, 404 if isinstance(error, NotFound) else 409, str(error))


def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words_for = {404: "No page has this address.", 405: "Nothing was done: use the console's own forms."}
    return _error_page(request, status, words_for.get(status, "Nothing was done."))


def _broken(request: Request, error: Exception) -> Response:
    LOG.error("a page of the console broke", exc_info=error, extra={"path": request.url.path})
    return _error_page(request, 500, "The page could not be made. The operator process has the reason in its log.")


def _error_page(request: Request, status: int, message: str) -> Response:
    # The console answers what the admin API leaves, and its callers expect JSON.
    if "text/html" not in request.headers.get("accept", "text/html"):
        return JSONResponse({"error": {"message": message, "type": "not_found" if status == 404 else "error"}}, status)
    heading = HEADINGS.get(status, "Something broke")
    console: Console = request.app.state.console
    values: dict[str, Any] = {"status": status, "heading": heading, "message": message}
    return console.templates.TemplateResponse(request, "error.html", values, status_code=status)
