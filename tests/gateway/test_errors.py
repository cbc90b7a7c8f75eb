"""The error tree, its documentation and its form on the wire."""

from __future__ import annotations

import inspect
import re

from gateway import errors
from gateway.errors import GatewayError, RateLimited, UpstreamRejected

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


def test_the_docstring_is_the_tree() -> None:
    """Every class stands in the module's docstring, with the status that it has."""
    text = errors.__doc__ or ""
    for kind in CLASSES:
        line = re.search(rf"\b{kind.__name__}\b *(\d\d\d)?", text)
        assert line is not None, f"{kind.__name__} is not in the docstring"
        if line.group(1):
            assert int(line.group(1)) == kind.status
    assert set(re.findall(r"[├└]── (\w+)", text)) == {kind.__name__ for kind in CLASSES} - {"GatewayError"}


def test_what_may_be_tried_elsewhere_is_documented() -> None:
    """The docstring says of exactly the retryable errors that another backend may be tried."""
    marked = set(re.findall(r"(\w+) +\d\w\w .*\(another may be tried\)", errors.__doc__ or ""))
    assert marked == {kind.__name__ for kind in CLASSES if kind.retryable}


def test_a_body_has_all_four_fields() -> None:
    """Absent values are null, never the text "None"."""
    assert GatewayError("oops").body() == {
        "error": {"message": "oops", "type": "server_error", "param": None, "code": None}
    }
    assert b"None" not in UpstreamRejected(400, "bad").encoded()


def test_retry_after_is_true_and_at_most_a_minute() -> None:
    """Seconds are rounded up, so that coming back then is not too early; older SDKs ignore more than 60."""
    assert RateLimited("x", retry_after=0.25).headers() == [(b"retry-after", b"1"), (b"retry-after-ms", b"250")]
    assert RateLimited("x", retry_after=float("inf")).headers()[0] == (b"retry-after", b"60")
    assert RateLimited("x", retry_after=None).headers() == [(b"x-should-retry", b"false")]
