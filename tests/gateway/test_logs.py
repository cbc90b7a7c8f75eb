"""JSON logs: every line parses, whatever was logged."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from gateway.logs import JsonFormatter


def test_a_line_is_one_json_object() -> None:
    """Fields given as `extra` are kept, odd values as text; an exception is a field of the same line."""
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord(
            "x.y", logging.ERROR, "f", 1, "said %s", ("é\n",), (type(error), error, error.__traceback__)
        )
    record.__dict__ |= {"path": Path("/a"), "count": 3}
    text = JsonFormatter("gateway-w0").format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (
        line.items()
        >= {
            "level": "error",
            "process": "gateway-w0",
            "logger": "x.y",
            "message": "said é\n",
            "path": "/a",
            "count": 3,
        }.items()
    )
    assert line["error"].endswith("ValueError: two\nlines")
    assert line["time"].endswith("Z")


def test_credentials_are_cut() -> None:
    """Keys, tokens and headers that an exception quotes, whoever made them; plain words stay."""
    headers = {b"authorization": b"Bearer sk-safe-abcdefghijkl", b"x-api-key": b"sk-proj-AB_cd-12345678"}
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "%s op-safe-1234567890 basic dXNlcjpwYXNz", (headers,), None)
    text = JsonFormatter("p").format(record)
    message = "{b'authorization': b'Bearer …', b'x-api-key': b'sk-…'} op-… basic …"
    assert json.loads(text)["message"] == message
    plain = logging.LogRecord("x", logging.ERROR, "f", 1, "a task-safe basic test of sk-1 bearers", (), None)
    assert json.loads(JsonFormatter("p").format(plain))["message"] == "a task-safe basic test of sk-1 bearers"
