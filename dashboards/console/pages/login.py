"""Log-in and log-out of local operators."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query
from starlette.requests import Request
from starlette.responses import Response

from dashboards.console.sessions import COOKIE
from dashboards.console.visit import Console, Text, Writer, check_origin, console_of, go, session_of
from gateway.ledger import audit, operators

router = APIRouter()

WRONG = "That name and password do not match. Passwords are set with `spiritsafe operators create NAME`."


@router.get("/login")
def show(request: Request, target: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Show the log-in, or pass on who is logged in already."""
    return go(local(target)) if session_of(request) else _form(request, target)


@router.post("/login")
def log_in(
    request: Request,
    console: Annotated[Console, Depends(console_of)],
    name: Text = "",
    password: Text = "",
    target: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Open a session for the right password; count, slow down and audit wrong ones."""
    check_origin(request)
    name = name.strip()[:128]
    address = request.client.host if request.client else "unknown"
    wait = max(console.by_name.wait(name), console.by_address.wait(address))
    if wait > 0:
        minutes = math.ceil(wait / 60)
        problem = f"Too many wrong passwords. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
        return _form(request, target, name, problem, 429)
    with console.database.read() as connection:
        operator = operators.by_password(connection, name, password)
    if operator is None:
        console.by_name.fail(name)
        console.by_address.fail(address)
        with console.database.write() as connection:
            # A name that nobody has may be a password typed into the wrong field.
            known = any(person.name == name for person in operators.every(connection))
            subject = name if known else "(unknown name)"
            audit.record(connection, "nobody", "operator.login_failed", subject, address=address)
        return _form(request, target, name, WRONG, 401)
    console.by_name.succeed(name)
    with console.database.write() as connection:
        audit.record(connection, operator.name, "operator.login", operator.name, address=address)
    response = go(local(target))
    sessions = console.sessions
    response.set_cookie(
        COOKIE,
        sessions.open(operator),
        max_age=sessions.seconds,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/logout")
def log_out(visit: Writer) -> Response:
    """End this session here and now."""
    visit.console.sessions.close(visit.session)
    with visit.console.database.write() as connection:
        audit.record(connection, visit.operator, "operator.logout", visit.operator)
    response = go("/login")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def local(target: str) -> str:
    """Return a target inside the console: anything that a browser could read as another site becomes `/`."""
    safe = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if safe else "/"


def _form(request: Request, target: str, name: str = "", problem: str = "", status: int = 200) -> Response:
    values = {"next": local(target), "name": name, "problem": problem}
    return console_of(request).templates.TemplateResponse(request, "login.html", values, status_code=status)
