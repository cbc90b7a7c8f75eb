"""JSON logs on stderr: one object per line, the same fields in every process, and no credential in any.

None is logged on purpose; but an exception's text may quote a header, so whatever looks like a key, a token or an
`Authorization` header is cut from the finished line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from gateway.ledger.identifiers import to_rfc3339

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
_CREDENTIAL = re.compile(r"\b((?:sk|op)-|(?:bearer|basic) +)[\w.~+/=-]{8,}", re.IGNORECASE)


class JsonFormatter(logging.Formatter):
    """Write a record as `time`, `level`, `process`, `logger`, `message`, what the call gave as `extra`, and `error`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON; values that JSON has no word for are written as text."""
        line: dict[str, object] = {
            "time": to_rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _CREDENTIAL.sub(r"\1…", json.dumps(line, default=str, ensure_ascii=False))


def configure(process: str, level: int = logging.INFO) -> None:
    """Send all logs of this process to stderr as JSON; call it once, at the start of a command that keeps running."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Uvicorn repeats every request and Alembic every look at the schema; neither is news.
    for name in ("uvicorn.access", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
