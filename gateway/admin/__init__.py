"""The JSON API of the control plane, mounted at `/admin/v1` of the operator process.

Every route is thin over a function of the ledger, the same that the command line and the console call; the actor is the
operator whose bearer token the request carries. `/admin/v1/openapi.json` describes all of it.
"""

from gateway.admin.application import create_app

__all__ = ["create_app"]
