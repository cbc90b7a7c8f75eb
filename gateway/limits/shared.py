"""The meters of one machine: a file that its workers map into memory.

Each row is a meter, and in it each worker has two cells of its own: what it holds and what it spent. A worker writes
its own cells without a lock, by one store of an aligned word; only taking more of a meter, and what refills with
time, needs the file's lock (flock, about 20 µs), which the kernel frees when its holder dies. A worker lives as long
as it holds the lock of its seat; what a dead one held goes back, what it spent stays spent. The memory is the
kernel's page cache, so `kill -9` loses nothing, and the file is what budgets are read from after a restart.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from gateway.limits.leases import Answer, Ask, Lease, StoreUnavailable
from gateway.limits.meters import (
    BUDGET_ENDS_S,
    IDLE_ENDS_S,
    MINUTE_NS,
    Kind,
    Meter,
    rate_available,
    rate_cost,
    rate_wait,
)

SEATS = 32  # workers that may run at once
CAPACITY = 32768  # meters
REAP_S = 0.5  # how often the dead are looked for, when there is a shortage

_MAGIC = 0x53504952_00000001
_HEADER = 64  # words
_KEY, _STATE, _LIMIT, _KIND, _ENDS, _CELLS = 0, 2, 3, 4, 5, 8  # where they are in a row, in words
_STRIDE = _CELLS + 2 * SEATS
_WORD = 8

logger = logging.getLogger(__name__)


class SharedStore:
    """The store of one worker. `workers`: how many share the limits; `clock` gives Unix seconds."""

    idle_ticks = 1

    def __init__(self, folder: Path, workers: int = 1, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._share = 4 * workers
        self._clock = clock
        self._reaped = float("-inf")
        self._rows: dict[bytes, int] = {}
        self._known = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._seat, self._seat_file = self._sit_down()
        self._file = os.open(folder / "meters", os.O_RDWR | os.O_CREAT, 0o600)
        with self._locked():
            self._prepare_file()
            self._map = mmap.mmap(self._file, _WORD * (_HEADER + CAPACITY * _STRIDE))
            self._cells = memoryview(self._map).cast("q")
            self._cells[0] = _MAGIC
            self._empty_seat(self._seat)  # whoever sat here before is dead
            self._reap()

    def attach(self, meter: Meter) -> Lease:
        """Return an empty lease on the meter, whose row is made where there is none."""
        with self._locked():
            row = self._row(meter)
        lease = Lease(meter, self._cells, row + _CELLS + 2 * self._seat)
        lease.full_at = self._cells[row + _STATE]
        return lease

    async def take(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Grant all that is asked for, or nothing."""
        with self._locked():
            now = self._now()
            rows = [self._row(ask.lease.meter) for ask in asks]
            lacking = [ask for ask, row in zip(asks, rows, strict=True) if self._available(row, now) < ask.need]
            if lacking and self._reap():
                lacking = [ask for ask, row in zip(asks, rows, strict=True) if self._available(row, now) < ask.need]
            if lacking:
                return [self._refusal(ask, row, now) for ask, row in zip(asks, rows, strict=True)]
            return [self._grant(ask, row, now) for ask, row in zip(asks, rows, strict=True)]

    async def settle(self, returns: Iterable[tuple[Lease, int]], active: Iterable[Lease]) -> None:
        """Take back what is not needed; of slots and budgets the cells say all."""
        rates = []
        for lease, amount in returns:
            if lease.meter.kind is Kind.RATE:
                rates.append((lease, amount))
            else:
                lease.cells[lease.at] -= amount
        if rates:
            with self._locked():
                for lease, amount in rates:
                    self._give_back_rate(lease, amount)

    async def ready(self) -> bool:
        """Say that it answers: memory does."""
        return True

    def lapsed(self) -> bool:
        """Say no: the living keep what they hold."""
        return False

    def expect(self, lifetime_s: float) -> None:
        """Do nothing: that a worker is gone is the kernel's to say, not a time's."""

    def emergency(self, asks: Sequence[Ask]) -> NoReturn:
        """Refuse: a machine's own memory is not away."""
        raise StoreUnavailable

    async def spent(self, meter: Meter) -> int:
        """Return what was spent of a budget, by all workers."""
        with self._locked():
            return self._spent(self._row(meter))

    async def rebuild(self, meter: Meter, recorded: int) -> None:
        """Let a budget's spending be what was recorded."""
        with self._locked():
            row = self._row(meter)
            self._cells[row + _STATE] += recorded - self._spent(row)

    async def close(self) -> None:
        """Give everything back and free the seat."""
        with self._locked():
            self._empty_seat(self._seat)
        self._map.flush()
        self._cells.release()
        self._map.close()
        os.close(self._file)
        os.close(self._seat_file)

    def _now(self) -> int:
        return int(self._clock() * 1e9)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _sit_down(self) -> tuple[int, int]:
        """Take the first seat that nobody living holds; return it and the file whose lock says so."""
        for seat in range(SEATS):
            file = self._lock_of(seat)
            if file is not None:
                return seat, file
        raise OSError(errno.EUSERS, f"more than {SEATS} workers would share the limits: lower gateway.workers")

    def _lock_of(self, seat: int) -> int | None:
        file = os.open(self._folder / f"seat-{seat}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def _prepare_file(self) -> None:
        # Room is taken now: a write into a hole of a full disk would kill the worker.
        size = _WORD * (_HEADER + CAPACITY * _STRIDE)
        found = os.pread(self._file, _WORD, 0)
        if found and int.from_bytes(found, "little") not in (0, _MAGIC):
            logger.error("the file of the limits has another form and begins anew: budgets count from now on")
            os.ftruncate(self._file, 0)
        os.posix_fallocate(self._file, 0, size)

    # --- rows: everything below is called with the lock held -------------------------------------------------------

    def _row(self, meter: Meter) -> int:
        row = self._rows.get(meter.key)
        if row is None or self._key(row) != meter.key:
            self._learn()
            row = self._rows.get(meter.key)
        if row is None:
            row = self._new_row(meter)
        cells = self._cells
        cells[row + _LIMIT] = meter.limit
        ends = meter.ends + BUDGET_ENDS_S if meter.ends else int(self._clock()) + IDLE_ENDS_S
        cells[row + _ENDS] = ends
        return row

    def _key(self, row: int) -> bytes:
        return bytes(self._cells[row : row + 2])

    def _learn(self) -> None:
        """Read the rows that others made; once the file is full they take old ones."""
        rows = self._used_rows()
        start = 0 if len(rows) == CAPACITY else self._known
        self._rows.update((self._key(row), row) for row in rows[start:])
        self._known = len(rows)

    def _used_rows(self) -> range:
        return range(_HEADER, _HEADER + self._cells[1] * _STRIDE, _STRIDE)

    def _new_row(self, meter: Meter) -> int:
        count = self._cells[1]
        if count < CAPACITY:
            row = _HEADER + count * _STRIDE
        else:
            row = self._forgotten_row()
            self._rows.pop(self._key(row), None)
        self._cells[row : row + _STRIDE] = memoryview(bytes(_WORD * _STRIDE)).cast("q")
        self._cells[row : row + 2] = memoryview(meter.key).cast("q")
        self._cells[row + _KIND] = meter.kind
        self._cells[1] = max(count, (row - _HEADER) // _STRIDE + 1)
        self._rows[meter.key] = row
        return row

    def _forgotten_row(self) -> int:
        moment = self._clock()
        for row in self._used_rows():
            if self._cells[row + _ENDS] < moment and not any(self._held_cells(row)):
                return row
        raise StoreUnavailable(f"more than {CAPACITY} limits are in use: fewer subjects can be limited at once")

    def _held_cells(self, row: int) -> memoryview:
        return self._cells[row + _CELLS : row + _STRIDE : 2]

    def _held(self, row: int) -> int:
        # A debt that is not charged yet is no room for others.
        return sum(held for held in self._held_cells(row) if held > 0)

    def _spent(self, row: int) -> int:
        return self._cells[row + _STATE] + sum(self._cells[row + _CELLS + 1 : row + _STRIDE : 2])

    def _full_at(self, row: int, now: int) -> int:
        # A clock that was set back must not close a bucket for longer than a minute.
        return min(self._cells[row + _STATE], now + MINUTE_NS)

    def _available(self, row: int, now: int) -> int:
        limit, kind = self._cells[row + _LIMIT], self._cells[row + _KIND]
        if kind == Kind.RATE:
            return rate_available(self._full_at(row, now), limit, now)
        spent = self._spent(row) if kind == Kind.BUDGET else 0
        return limit - spent - self._held(row)

    def _grant(self, ask: Ask, row: int, now: int) -> Answer:
        lease = ask.lease
        keep = (self._available(row, now) - ask.need) // self._share
        keep = keep if keep >= ask.unit else 0
        granted = ask.need + keep
        if lease.meter.kind is Kind.RATE:
            full_at = max(self._full_at(row, now), now) + rate_cost(granted, lease.meter.limit)
            self._cells[row + _STATE] = full_at
        lease.cells[lease.at] += granted
        return Answer(granted, keep, self._cells[row + _STATE])

    def _refusal(self, ask: Ask, row: int, now: int) -> Answer:
        meter = ask.lease.meter
        if self._available(row, now) >= ask.need:
            return Answer(0, wait_s=0.0)
        if meter.kind is Kind.RATE:
            wait = rate_wait(self._full_at(row, now), meter.limit, ask.need, now) if ask.unit <= meter.limit else None
            return Answer(0, full_at=self._full_at(row, now), wait_s=None if wait is None else -(-wait // 1000) / 1e6)
        spent = meter.kind is Kind.BUDGET and self._spent(row) + ask.unit > meter.limit
        return Answer(0, wait_s=max(0.0, meter.ends - self._clock()) if spent else None, spent=spent)

    def _give_back_rate(self, lease: Lease, amount: int) -> None:
        row = self._row(lease.meter)
        lease.cells[lease.at] -= amount
        self._refill(row, amount)
        lease.full_at = self._cells[row + _STATE]

    def _refill(self, row: int, amount: int) -> None:
        limit = self._cells[row + _LIMIT]
        now = self._now()
        earlier = rate_cost(amount, limit) if amount > 0 else -rate_cost(-amount, limit)
        self._cells[row + _STATE] = max(self._full_at(row, now), now) - earlier

    def _reap(self) -> bool:
        """Take back what the dead hold; True when somebody had died."""
        if self._clock() - self._reaped < REAP_S:
            return False
        self._reaped = self._clock()
        found = False
        for seat in range(SEATS):
            if seat == self._seat or not (self._folder / f"seat-{seat}.lock").exists():
                continue
            file = self._lock_of(seat)
            if file is not None:
                found = self._empty_seat(seat) or found
                os.close(file)
        return found

    def _empty_seat(self, seat: int) -> bool:
        found = False
        for row in self._used_rows():
            held = self._cells[row + _CELLS + 2 * seat]
            if held:
                found = True
                if self._cells[row + _KIND] == Kind.RATE:
                    self._refill(row, held)
                self._cells[row + _CELLS + 2 * seat] = 0
        return found
