"""`/v1/embeddings`: texts in, vectors out; the record keeps the texts."""

from __future__ import annotations

from typing import Any

from gateway.errors import BadRequest, UnsupportedParameter
from gateway.protocol.answers import Answer, Usage
from gateway.protocol.dialects.choices import choices_usage
from gateway.protocol.dialects.denied import check_denied
from gateway.protocol.dialects.dialect import Dialect


class EmbeddingsAnswer(Answer):
    """Counts the vectors; their numbers are kept nowhere."""

    def add_whole(self, body: dict[str, Any]) -> None:
        """Take the answer."""
        usage, data = body.get("usage"), body.get("data")
        self._reported = usage if isinstance(usage, dict) else None
        self.choices = len(data) if isinstance(data, list) else 0

    def _exact(self, reported: dict[str, Any]) -> Usage:
        return choices_usage(reported)


def check(body: dict[str, Any], extensions: bool) -> None:
    """Check what we look at of an embeddings request."""
    if not body.get("input") and not body.get("messages"):
        raise BadRequest("You must provide an input parameter: a text or a list of texts.", param="input")
    if not extensions:
        check_denied(body)
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise UnsupportedParameter("encoding_format", 'it must be "float" or "base64"')


def subject(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with its texts as `prompt`; vLLM takes conversations too."""
    asked = body.get("input") or body.get("messages")
    return {name: value for name, value in body.items() if name not in ("input", "messages")} | {"prompt": asked}


DIALECT = Dialect(
    endpoint="embeddings",
    path="/v1/embeddings",
    check=check,
    subject=subject,
    answer=EmbeddingsAnswer,
    text="prompt",
    streams=False,
    # Vectors of two models can't be compared: who mixes them in one index finds nothing.
    automatic=False,
)
