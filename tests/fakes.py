"""A scripted vLLM on loopback: it plays what a test tells it to, and remembers what it got and whether the client left.

A script is a list of steps: bytes to send, `Wait`, `Hang`, `HalfClose`, `Drop`. `FakeVllm` answers like vLLM where no
script is set.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wait:
    """Do nothing for that many seconds, or until the client leaves."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """Do nothing until the client leaves."""


@dataclass(frozen=True)
class Drop:
    """Close the connection, whatever was promised; `reset` does it with a TCP reset."""

    reset: bool = False


@dataclass(frozen=True)
class HalfClose:
    """Send the end of the connection, and go on reading."""


Step = bytes | Wait | Hang | HalfClose | Drop
Script = Sequence[Step]


@dataclass
class Received:
    """One request that the fake got. `left` is set when the client closed before the answer was complete."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes = b""
    left: threading.Event = field(default_factory=threading.Event)
    complete: threading.Event = field(default_factory=threading.Event)


class FakeVllm:
    """Serves on a thread of its own. `play` sets the script for the next requests in turn."""

    def __init__(self, models: Sequence[str] = ("teacher",)) -> None:
        self.models = list(models)
        self.received: list[Received] = []
        self.healthy = True
        self.load: tuple[int, int, float] | None = None  # running, waiting, KV cache; None: no /metrics
        self.probes: list[str] = []
        self.connections = 0
        self._scripts: list[Script] = []
        self._always: Callable[[Received], Script] | None = None
        self._loop = asyncio.new_event_loop()
        self._others: list[asyncio.Server] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def play(self, *steps: Step) -> None:
        """Answer one of the next requests with these steps."""
        self._scripts.append(steps)

    def always(self, script: Callable[[Received], Script] | None) -> None:
        """Answer every request that has no script of its own with what this makes of it."""
        self._always = script

    def forget(self) -> None:
        """Drop scripts and what was received."""
        self.received, self._scripts, self._always, self.healthy, self.connections = [], [], None, True, 0
        self.load, self.probes = None, []

    def start(self, port: int = 0) -> FakeVllm:
        """Listen on loopback."""
        self.port = port
        self._thread.start()
        assert self._started.wait(5)
        return self

    def another_url(self) -> str:
        """Listen on one more port, so that what is known of one backend does not count for another."""
        opening = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(5)
        self._others.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Close every connection and the port, as a killed server would."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        for opened in (server, *self._others):
            opened.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, which `left` says where it matters, or the fake is being stopped
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        method, path, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (part.partition(":") for part in rest)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "GET":
            writer.write(self._probe(path))
            await writer.drain()
            return True
        request = Received(path, headers, json.loads(raw), raw)
        self.received.append(request)
        script = self._scripts.pop(0) if self._scripts else (self._always or answer_like_vllm)(request)
        return await self._play(script, request, reader, writer)

    def _probe(self, path: str) -> bytes:
        self.probes.append(path)
        if path == "/metrics":
            return response(b"", 404) if self.load is None else response(metrics_page(*self.load), kind="text/plain")
        if path == "/health":
            return response(b"", 200 if self.healthy else 503)
        names = [{"id": name, "object": "model"} for name in self.models]
        return response(json.dumps({"object": "list", "data": names}).encode())

    async def _play(
        self, script: Script, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        gone = asyncio.create_task(reader.read(1))
        try:
            for step in script:
                if isinstance(step, Drop):
                    if step.reset:
                        writer.transport.abort()
                    return False
                if isinstance(step, HalfClose):
                    writer.write_eof()
                    continue
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    continue
                seconds = step.seconds if isinstance(step, Wait) else None
                done, _ = await asyncio.wait({gone}, timeout=seconds)
                if done:
                    request.left.set()
                    return False
            request.complete.set()
            return True
        except ConnectionError:
            request.left.set()
            return False
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


@contextmanager
def fake_vllm(models: Sequence[str] = ("teacher",), port: int = 0) -> Iterator[FakeVllm]:
    """Run a fake inside the block."""
    fake = FakeVllm(models).start(port)
    try:
        yield fake
    finally:
        fake.stop()


def response(body: bytes, status: int = 200, kind: str = "application/json", extra: str = "") -> bytes:
    """Return a whole HTTP response."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def metrics_page(running: int, waiting: int, kv_cache: float) -> bytes:
    """Return the lines of vLLM's metrics that tell of load."""
    labels = '{engine="0",model_name="teacher"}'
    values = {"num_requests_running": running, "num_requests_waiting": waiting, "kv_cache_usage_perc": kv_cache}
    values |= {"prefix_cache_queries_total": 100, "prefix_cache_hits_total": 40}
    return "".join(f"vllm:{name}{labels} {float(value)}\n" for name, value in values.items()).encode()


def error_response(status: int, message: str, **fields: Any) -> bytes:
    """Return an error as vLLM words it."""
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status} | fields
    return response(json.dumps({"error": error}).encode(), status)


def stream_head(status: int = 200) -> bytes:
    """Return the head of a chunked event stream."""
    return (
        f"HTTP/1.1 {status} OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    ).encode()


def framed(data: bytes) -> bytes:
    """Wrap bytes in one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(payload: dict[str, Any] | str) -> bytes:
    """Return one event as one HTTP chunk."""
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    return framed(f"data: {text}\n\n".encode())


END = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Return usage in vLLM's order."""
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def chunk(
    model: str, delta: dict[str, Any] | None, spent: dict[str, int] | None = None, finish: str | None = None
) -> dict[str, Any]:
    """Return a chunk of a chat stream; `delta` None makes the usage chunk without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    found: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": choices,
    }
    return found if spent is None else found | {"usage": spent}


def chat_stream(model: str, words: Sequence[str], prompt: int = 7, pause_s: float = 0.0) -> list[Step]:
    """Return a chat stream as vLLM sends it with continuous usage."""
    steps: list[Step] = [
        stream_head(),
        event(chunk(model, {"role": "assistant", "content": ""}, usage(prompt, 0))),
    ]
    for number, word in enumerate(words, 1):
        finish = "stop" if number == len(words) else None
        steps += [Wait(pause_s)] if pause_s else []
        steps.append(event(chunk(model, {"content": word}, usage(prompt, number), finish)))
    return [*steps, event(chunk(model, None, usage(prompt, len(words)))), END]


def chat_answer(model: str, text: str, spent: dict[str, int] | None = None, **message: Any) -> bytes:
    """Return a chat answer that is not streamed."""
    body = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text} | message,
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": spent or usage(7, 3),
    }
    return response(json.dumps(body).encode())


def text_answer(model: str, text: str) -> bytes:
    """Return an answer of /v1/completions."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}
    body = {"id": "cmpl-fake", "object": "text_completion", "created": 1, "model": model, "choices": [choice]}
    return response(json.dumps(body | {"usage": usage(4, 2)}).encode())


def text_stream(model: str, words: Sequence[str]) -> list[Step]:
    """Return a stream of /v1/completions."""
    steps: list[Step] = [stream_head()]
    for number, word in enumerate(words, 1):
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": None}
        found = {"id": "cmpl-fake", "object": "text_completion", "created": 1, "model": model, "choices": [choice]}
        steps.append(event(found | {"usage": usage(4, number)}))
    return [*steps, END]


def answer_like_vllm(request: Received) -> Script:
    """Answer "Hello there!" in the form that was asked for."""
    model, stream = request.body["model"], request.body.get("stream")
    if request.path == "/v1/completions":
        return text_stream(model, ["Hello", " there!"]) if stream else [text_answer(model, "Hello there!")]
    if stream:
        return chat_stream(model, ["Hello", " there", "!"])
    return [chat_answer(model, "Hello there!")]
