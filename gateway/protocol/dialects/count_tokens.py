"""`/v1/messages/count_tokens`: how long a request would be. Nothing is generated: no traffic, and no cost."""

from __future__ import annotations

from typing import Any

from gateway.protocol.answers import Answer, Usage
from gateway.protocol.dialects import messages
from gateway.protocol.dialects.dialect import Dialect


class CountAnswer(Answer):
    """Keeps nothing: the client has the number."""

    def add_whole(self, body: dict[str, Any]) -> None:
        """Take the answer."""

    def _exact(self, reported: dict[str, Any]) -> Usage:
        return {}


DIALECT = Dialect(
    endpoint="messages.count_tokens",
    path="/v1/messages/count_tokens",
    check=messages.check,
    subject=messages.subject,
    answer=CountAnswer,
    errors=messages.ERRORS,
    streams=False,
    recorded=False,
    passed_on=messages.PASSED_ON,
    id_headers=messages.ID_HEADERS,
)
