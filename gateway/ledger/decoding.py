"""From the payloads of frames to rows, here or in processes beside the ingester: it is most of ingestion's work.

A decoder is this module run as a program. It gets payloads by its standard input and answers with rows as an Arrow
stream; it keeps nothing, ends when its input does, and may be killed at any point: what it owed is decoded here. So is
what one owes that hangs: it is killed when it has not answered in time.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from gateway.ledger import fingerprint
from gateway.ledger.frames import Unreadable, record_of
from gateway.ledger.traffic import SCHEMA, to_table

logger = logging.getLogger(__name__)

# Makes the documented form of a record as the gateway wrote it; a decoder finds it by the name of its module.
Finish = Callable[[dict[str, Any]], dict[str, Any]]

_COUNT = np.dtype("<u8")
_PIPE_BYTES = 1024 * 1024
# A piece of 4 MB takes a second at most with fingerprints: a fiftieth of that is a machine that is hardly there.
_ANSWER_S, _SLOWEST_BYTES_S = 30.0, 256 * 1024


class Decoded(NamedTuple):
    """Rows of `SCHEMA`, one for each payload but those that nobody can read, whose positions are named."""

    rows: pa.Table
    unreadable: list[int]


def decode(payloads: Sequence[bytes | memoryview], finish: Finish) -> Decoded:
    """Return the payloads' records as rows."""
    records, unreadable = [], []
    for position, payload in enumerate(payloads):
        try:
            records.append(finish(record_of(payload)))
        except Unreadable:
            unreadable.append(position)
    return Decoded(to_table(fingerprint.complete_all(records)), unreadable)


class Decoders:
    """So many processes that decode beside this one, begun when there is work for them.

    `on_lost` is told, in any thread, of each that died or was killed because it hung.
    """

    def __init__(self, finish: Finish, count: int, on_lost: Callable[[], None] = lambda: None) -> None:
        self._finish, self._on_lost = finish, on_lost
        self._threads = ThreadPoolExecutor(count, "ingester-decoders")
        self._idle: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        for _number in range(count):
            self._idle.put(None)

    def submit(self, payloads: Sequence[bytes]) -> Future[Decoded]:
        """Decode payloads as soon as a process is free."""
        return self._threads.submit(self._decode, payloads)

    def close(self) -> None:
        """End the processes once they have done what was submitted."""
        self._threads.shutdown()
        while not self._idle.empty():
            process = self._idle.get()
            if process is not None:
                process.end()

    def _decode(self, payloads: Sequence[bytes]) -> Decoded:
        process = self._idle.get()
        try:
            process = process or _Process(self._finish)
            return process.decode(payloads)
        except (OSError, pa.ArrowException, StopIteration) as error:
            reason = error if process is None else process.end() or error
            process = None
            self._on_lost()
            logger.warning("a decoder ended (%s): what it was given is decoded by the ingester itself", reason)
            return decode(payloads, self._finish)
        finally:
            self._idle.put(process)


class _Process:
    def __init__(self, finish: Finish) -> None:
        command = [sys.executable, "-m", __name__, finish.__module__, finish.__qualname__]
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=_PIPE_BYTES,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._reader: pa.RecordBatchReader | None = None
        self._hung_s: float | None = None

    def decode(self, payloads: Sequence[bytes]) -> Decoded:
        """Have it decode payloads. Raises what a broken pipe does when it dies, and when it hangs, for it is killed."""
        limit_s = _ANSWER_S + sum(map(len, payloads)) / _SLOWEST_BYTES_S
        limit = threading.Timer(limit_s, self._give_up, (limit_s,))
        limit.start()
        try:
            return self._answer(payloads)
        finally:
            limit.cancel()

    def end(self) -> str | None:
        """End it, however it is; returns why where it hung."""
        self._process.kill()
        self._process.communicate()
        return None if self._hung_s is None else f"no answer in {self._hung_s:.3g} s"

    def _give_up(self, after_s: float) -> None:
        # Whoever writes to it or reads from it is told by the pipe's end.
        self._hung_s = after_s
        self._process.kill()

    def _answer(self, payloads: Sequence[bytes]) -> Decoded:
        _send(self._input, payloads)
        if self._reader is None:
            self._reader = pa.ipc.open_stream(self._output)
        batch, metadata = self._reader.read_next_batch_with_custom_metadata()
        said = json.loads(metadata[b"said"])
        for record in said["logs"]:
            logging.getLogger(record["name"]).handle(logging.makeLogRecord(record))
        return Decoded(pa.Table.from_batches([batch]), said["unreadable"])


def _send(file: IO[bytes], payloads: Sequence[bytes]) -> None:
    """Write how many payloads there are, the length of each, and the payloads."""
    lengths = np.fromiter(map(len, payloads), _COUNT, len(payloads))
    file.write(_COUNT.type(len(payloads)).tobytes() + lengths.tobytes())
    file.writelines(payloads)
    file.flush()


def _receive(file: IO[bytes]) -> list[memoryview] | None:
    """Read what `_send` wrote, None at the end."""
    head = file.read(_COUNT.itemsize)
    if len(head) < _COUNT.itemsize:
        return None
    count = int.from_bytes(head, "little")
    lengths = np.frombuffer(file.read(count * _COUNT.itemsize), _COUNT)
    ends = [0, *np.cumsum(lengths).tolist()]
    data = memoryview(file.read(ends[-1]))
    if len(data) < ends[-1]:
        return None
    return [data[start:end] for start, end in pairwise(ends)]


class _Collected(logging.Handler):
    """Keeps what is logged for the ingester to say: it knows where to, and how."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        said |= {"msg": record.getMessage(), "id": getattr(record, "id", None)}
        if record.exc_info:
            said["error"] = "".join(traceback.format_exception(*record.exc_info))
        self._records.append(said)

    def taken(self) -> list[dict[str, Any]]:
        records, self._records = self._records, []
        return records


def _serve(input_file: IO[bytes], output_file: IO[bytes], finish: Finish) -> None:
    """Answer until the input ends."""
    logs = _Collected()
    logging.basicConfig(level=logging.INFO, handlers=[logs], force=True)
    with pa.ipc.new_stream(output_file, SCHEMA) as writer:
        while (payloads := _receive(input_file)) is not None:
            rows, unreadable = decode(payloads, finish)
            said = json.dumps({"unreadable": unreadable, "logs": logs.taken()})
            batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in rows.columns], schema=SCHEMA)
            writer.write_batch(batch, custom_metadata={"said": said})
            output_file.flush()


def main(module: str, name: str) -> None:
    """Be a decoder; whatever else prints goes to standard error."""
    output = os.fdopen(os.dup(1), "wb", _PIPE_BYTES)
    os.dup2(2, 1)
    gc.disable()  # Records have no cycles, and the search for some costs as much as reading them.
    finish = getattr(importlib.import_module(module), name)
    _serve(sys.stdin.buffer, output, cast(Finish, finish))


if __name__ == "__main__":
    main(*sys.argv[1:])
