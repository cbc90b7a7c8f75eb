"""An S3 server of the tests' own, moto's, as a process on loopback; and a proxy before it that plays faults.

moto refuses a conditional put as S3 does, and keeps versions and unfinished uploads. It looks at no signature.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.settings import S3Settings

KEY_ID, SECRET = "AKIDOFTESTS", "secret-of-tests"
SLOW_DOWN = (503, "SlowDown")
INTERNAL = (500, "InternalError")
REFUSED = (403, "InvalidAccessKeyId")


def require() -> None:
    """Skip where moto or S3's client is missing."""
    for name in ("boto3", "moto"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: `make setup` installs it, locked in requirements/dev.txt")


@contextmanager
def server() -> Iterator[int]:
    """Run moto's server and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("moto's server did not start")


@dataclass(frozen=True)
class Request:
    """What a client asks: the path has the query."""

    method: str
    path: str

    @property
    def is_commit(self) -> bool:
        """Whether it would make a version of the table."""
        return self.method == "PUT" and "/_delta_log/" in self.path and self.path.endswith(".json")


@dataclass(frozen=True)
class Fault:
    """What becomes of a request: `answer` (status and code) in place of S3's; `until`: it waits for that event first.

    `applied`: S3 gets the request all the same, which is how an answer is lost.
    """

    answer: tuple[int, str] | None = None
    until: threading.Event | None = None
    applied: bool = False


Script = Callable[[Request], Fault | None]


class Faults:
    """A proxy before the server: `script` decides about every request, `seen` counts them."""

    def __init__(self, port: int) -> None:
        self.script: Script = lambda _request: None
        self.seen: list[tuple[Request, int]] = []
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):  # The client gave up.
                    self.close_connection = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path)
                fault = faults.script(request) or Fault()
                if fault.until is not None:
                    fault.until.wait(120)
                if fault.answer is not None and not fault.applied:
                    return self._answer(request, *_error(*fault.answer))
                answer = self._forwarded(body)
                self._answer(request, *(_error(*fault.answer) if fault.answer is not None else answer))
                return None

            def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body or None, headers)
                found = connection.getresponse()
                data = found.read()
                kept = {name: value for name, value in found.getheaders() if name.lower() in _KEPT}
                kept |= {name: value for name, value in found.getheaders() if name.lower().startswith("x-amz-")}
                connection.close()
                if self.command == "HEAD":
                    kept["Content-Length"] = found.getheader("Content-Length") or "0"
                return found.status, kept, data

            def _answer(self, request: Request, status: int, headers: dict[str, str], data: bytes) -> None:
                faults.seen.append((request, status))
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 (the library's own names)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's own name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, status: int) -> int:
        """How many requests were answered so."""
        return sum(answered == status for _request, answered in self.seen)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


_KEPT = frozenset(("content-type", "etag", "last-modified", "content-range", "accept-ranges", "date"))


def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    """An answer as S3 words it, which repeats the key's id."""
    text = f"<Error><Code>{code}</Code><Message>as scripted</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
    return status, {"Content-Type": "application/xml"}, text.encode()


@dataclass
class Store:
    """A bucket of its own, reached through a proxy of its own."""

    port: int
    faults: Faults
    bucket: str = field(default_factory=lambda: f"lake-{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        # No proxy, no faults: what a test looks at itself.
        boto3 = importlib.import_module("boto3")
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )
        self.client.create_bucket(Bucket=self.bucket)

    @property
    def address(self) -> str:
        """What `lake` is set to."""
        return f"s3://{self.bucket}/house"

    def settings(self, timeout_s: float = 20.0) -> S3Settings:
        """The `[s3]` section; its keys are in the environment under these names."""
        return S3Settings(self.faults.url, "us-east-1", "TEST_S3_KEY", "TEST_S3_SECRET", timeout_s)

    def delta_options(self) -> dict[str, str]:
        """What other engines are told, past the proxy."""
        keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET, "aws_region": "us-east-1"}
        return {**keys, "aws_endpoint": f"http://127.0.0.1:{self.port}", "aws_allow_http": "true"}

    def versions(self) -> dict[str, bytes]:
        """Every version of every object, by key and version."""
        found = {}
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            for item in page.get("Versions", []):
                named = {"Bucket": self.bucket, "Key": item["Key"], "VersionId": item["VersionId"]}
                found[f"{item['Key']}?{item['VersionId']}"] = self.client.get_object(**named)["Body"].read()
        return found
