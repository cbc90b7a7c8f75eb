"""The admin API's application: its routers, and errors in the shape that clients of the endpoint know."""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.admin import (
    accounts,
    alerts,
    audit,
    declared_uses,
    enforcement,
    fleet,
    health,
    limits,
    models,
    policies,
    snapshots,
    usage,
)
from gateway.admin.access import Surroundings, require_operator
from gateway.admin.schemas import Problem
from gateway.ledger.database import Database
from gateway.ledger.errors import AlreadyExists, Forbidden, InvalidValue, LedgerError, NotFound
from gateway.settings import Settings

# The first class that an error is an instance of decides. The ledger's message goes out as it is: it has the remedy.
STATUS: tuple[tuple[type[LedgerError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (AlreadyExists, 409, "conflict"),
    (Forbidden, 403, "permission_denied"),
    (InvalidValue, 400, "invalid_request_error"),
    (LedgerError, 503, "unavailable"),
)
TYPES = {500: "server_error", 401: "authentication_error", 404: "not_found", 405: "invalid_request_error"}
ERRORS = {status: {"model": Problem} for status in (400, 401, 403, 404, 409)}


def create_app(settings: Settings, database: Database) -> FastAPI:
    """Compose the API; every route but the description of the API asks for an operator's token."""
    app = FastAPI(
        title="Spiritsafe admin API",
        description="What the console does, as an API; `spiritsafe operators create` prints a token for it.",
        version="1",
        docs_url=None,  # Its page loads scripts from another host; openapi.json is the documentation.
        redoc_url=None,
        dependencies=[Depends(require_operator)],
        responses=ERRORS,  # type: ignore[arg-type]  # FastAPI's own type has no room for a precise one
    )
    app.state.surroundings = Surroundings(settings, database)
    for module in (accounts, declared_uses, limits, alerts, enforcement, policies):
        app.include_router(module.router)
    for module in (snapshots, models, fleet, usage, audit, health):
        app.include_router(module.router)
    app.add_exception_handler(LedgerError, _ledger_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _http_error)  # logged by the server, which raises it again
    return app


def _ledger_error(_request: Request, error: Exception) -> JSONResponse:
    status, kind = next((status, kind) for cls, status, kind in STATUS if isinstance(error, cls))
    return _answer(status, kind, str(error))


def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    places = [(".".join(map(str, problem["loc"][1:])) or "body", problem["msg"]) for problem in problems]
    return _answer(400, "invalid_request_error", "; ".join(f"{place}: {message}" for place, message in places))


def _http_error(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    detail = error.detail if isinstance(error, HTTPException) else "internal error"
    return _answer(status, TYPES.get(status, "invalid_request_error"), detail, headers)


def _answer(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind}}, status, headers)
