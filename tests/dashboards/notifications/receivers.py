"""What messages arrive at in the tests: a mail server and an HTTP server on loopback, each with its own moods."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Mailbox:
    """A mail server (RFC 5321, as much as a client needs): what it took; `refuses` is a code it answers instead."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    refuses: int = 0


@dataclass
class Inbox:
    """An HTTP server: the requests it got, and the statuses of its next answers (200 after these)."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Take mail on a free port until the end of the block."""
    box = Mailbox()

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 ready")
            for line in iter(self.rfile.readline, b""):
                verb = line.split(b" ")[0].strip().upper()
                if verb == b"RCPT" and box.refuses:
                    self._say(f"{box.refuses} no")
                    continue
                if verb == b"RCPT":
                    box.recipients.append(line.decode().partition("<")[2].partition(">")[0])
                self._say({b"DATA": "354 go on", b"QUIT": "221 bye"}.get(verb, "250 fine"))
                if verb == b"DATA":
                    self._take()
                if verb == b"QUIT":
                    return

        def _take(self) -> None:
            lines = []
            for line in iter(self.rfile.readline, b".\r\n"):
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            box.mails.append(email.message_from_bytes(b"".join(lines), policy=email.policy.default))
            self._say("250 taken")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation)) as box.port:
        yield box


@contextmanager
def http_server() -> Iterator[Inbox]:
    """Take requests on a free port until the end of the block."""
    box = Inbox()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            box.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(box.answers.pop(0) if box.answers else 200)
            self.send_header("location", box.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Answer)) as port:
        box.url = f"http://127.0.0.1:{port}/hook/not-for-logs"
        yield box


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
