"""`/v1/models` in the two forms that clients know: OpenAI's, and Anthropic's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.protocol.dialects import Endpoint

_UNKNOWN_TIME = "1970-01-01T00:00:00Z"  # Anthropic's own word for a release date that nobody knows


def model_object(endpoint: Endpoint, name: str) -> dict[str, Any]:
    """Return the description of a model, as clients of the endpoint read it."""
    if endpoint == "messages":
        return {"type": "model", "id": name, "display_name": name, "created_at": _UNKNOWN_TIME, "lifecycle": "active"}
    return {"id": name, "object": "model", "created": 0, "owned_by": "spiritsafe"}


def list_of_models(endpoint: Endpoint, names: Sequence[str]) -> dict[str, Any]:
    """Return the list of all models, always on one page."""
    found = [model_object(endpoint, name) for name in names]
    if endpoint == "messages":
        first, last = (names[0], names[-1]) if names else (None, None)
        return {"data": found, "has_more": False, "first_id": first, "last_id": last}
    return {"object": "list", "data": found}
