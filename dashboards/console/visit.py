"""A logged-in person's look at a page: who it is, what the pages read from, and how an answer is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form
from fastapi.templating import Jinja2Templates
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dashboards.console.sessions import COOKIE, Session, Sessions, Throttle
from dashboards.console.traffic import Traffic
from gateway.ledger import alerts, operators
from gateway.ledger.database import Database
from gateway.settings import Settings


class LogInNeeded(Exception):
    """Nobody is logged in; `target` is the page to come back to."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


class Refused(Exception):
    """A form that this console did not hand out to this session; the message has the remedy."""


@dataclass(frozen=True)
class Console:
    """What every page reads from; made once, at mounting."""

    settings: Settings
    database: Database
    traffic: Traffic
    sessions: Sessions
    by_name: Throttle
    by_address: Throttle
    templates: Jinja2Templates


@dataclass(frozen=True)
class Visit:
    """One request of a logged-in operator."""

    request: Request
    console: Console
    session: Session

    @property
    def operator(self) -> str:
        """The name under which decisions are recorded."""
        return self.session.operator

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Render a page inside the console's frame."""
        with self.console.database.read() as connection:
            frame = {"open_alerts": alerts.count_open(connection), "operator": self.operator}
        frame["csrf"] = self.console.sessions.csrf(self.session)
        return self.console.templates.TemplateResponse(self.request, template, {**frame, **values}, status_code=status)


def go(path: str) -> RedirectResponse:
    """Send the browser to a page after a form was handled, so that a reload repeats nothing."""
    return RedirectResponse(path, status_code=303)


def console_of(request: Request) -> Console:
    """Return the console that this request's application was built with."""
    console: Console = request.app.state.console
    return console


def session_of(request: Request) -> Session | None:
    """Return the session of a request whose operator still exists with the same password; None without one."""
    console = console_of(request)
    session = console.sessions.read(request.cookies.get(COOKIE, ""))
    if session is None:
        return None
    with console.database.read() as connection:
        known = {operator.name: operator for operator in operators.every(connection)}
    operator = known.get(session.operator)
    return session if operator and console.sessions.credential(operator) == session.credential else None


def reader(request: Request) -> Visit:
    """Let a logged-in operator read; anyone else is sent to the log-in."""
    session = session_of(request)
    if session is None:
        query = f"?{request.url.query}" if request.url.query else ""
        raise LogInNeeded(quote(request.url.path + query) if request.method == "GET" else "/")
    return Visit(request, console_of(request), session)


def check_origin(request: Request) -> None:
    """Refuse a form that a browser says comes from another site."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused("this form came from another site, so nothing was done: open the console and act there")


def writer(visit: Annotated[Visit, Depends(reader)], csrf: Annotated[str, Form()] = "") -> Visit:
    """Let a logged-in operator change something, with the token of this very session."""
    check_origin(visit.request)
    if not visit.console.sessions.is_csrf(visit.session, csrf):
        raise Refused(
            "this form is from an earlier session, so nothing was done: go back, reload the page, send it again"
        )
    return visit


Reader = Annotated[Visit, Depends(reader)]
Writer = Annotated[Visit, Depends(writer)]
Text = Annotated[str, Form()]
