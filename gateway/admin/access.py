"""Who may use the admin API, and what its routes work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.ledger import operators
from gateway.ledger.database import Database
from gateway.settings import Settings

_bearer = HTTPBearer(auto_error=False, description="The token that `spiritsafe operators create` printed.")


@dataclass(frozen=True)
class Surroundings:
    """The settings and the control plane of this installation."""

    settings: Settings
    database: Database


def surroundings(request: Request) -> Surroundings:
    """Return what the application was composed with."""
    found: Surroundings = request.app.state.surroundings
    return found


def require_operator(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """Return the name of the operator whose token the request carries; 401 with the remedy otherwise."""
    if credentials is not None:
        with surroundings(request).database.read() as connection:
            operator = operators.by_token(connection, credentials.credentials)
        if operator is not None:
            return operator.name
    raise HTTPException(
        401,
        "this needs `Authorization: Bearer TOKEN` with an operator's token: `spiritsafe operators create` prints one",
        {"WWW-Authenticate": "Bearer"},
    )


House = Annotated[Surroundings, Depends(surroundings)]
Actor = Annotated[str, Depends(require_operator)]
