"""The limiter over the memory that the workers of a machine share."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from gateway.ledger.limits import Limit, Limits
from gateway.limits.leases import LeasedLimiter, StoreUnavailable
from gateway.limits.shared import REAP_S, SEATS, SharedStore
from tests.checks import Clock, Subject, check_limiter
from tests.conftest import ROOT
from tests.gateway.conftest import eventually
from tests.gateway.limits.together import NEVER_S, SPENT_AND_KILLED, STEPS, House, Step
from tests.properties import examples


def subject(folder: Path, workers: int = 1, clock: Clock | None = None) -> Subject:
    """Return a worker's limiter; those of one folder share their limits."""
    clock = clock or Clock()
    return Subject(LeasedLimiter(SharedStore(folder, workers, clock), 660.0, clock), clock, asyncio.run)


def test_it_is_a_limiter_alone(tmp_path: Path) -> None:
    """All that a limiter promises, for a worker that is alone."""
    folders = (tmp_path / str(number) for number in itertools.count())
    check_limiter(lambda: subject(next(folders)))


def test_it_is_a_limiter_among_others(tmp_path: Path) -> None:
    """And for one of several, whose leases are smaller."""
    folders = (tmp_path / str(number) for number in itertools.count())
    check_limiter(lambda: subject(next(folders), 4))


class Worker:
    """A worker in a process of its own, on real time."""

    def __init__(self, folder: Path, **limits: int) -> None:
        command = [sys.executable, "-m", "tests.gateway.limits.worker_process", str(folder), json.dumps(limits)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def do(self, command: str) -> bool:
        """Run a command; False when it was refused."""
        self.send(command)
        return self.answer() == "yes"

    def send(self, command: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.communicate()

    def answer(self) -> str:
        """Return the next answer."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Return `start(**limits)`, which starts a worker; all share the limits of the account `a`."""
    workers: list[Worker] = []

    def start(**limits: int) -> Worker:
        workers.append(Worker(tmp_path, **limits))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.mark.slow
def test_workers_share_a_limit_exactly(start: Callable[..., Worker]) -> None:
    """Two processes let a budget's hundred requests through between them, and not one more."""
    first, second = start(usd_month=100), start(usd_month=100)
    taken = sum(worker.do("reserve 0 1") for _ in range(120) for worker in (first, second))
    assert taken == 100
    first.do("settle 0 0")
    for _ in range(2):
        first.do("tick")
    assert second.do("reserve 0 1")
    assert not first.do("reserve 0 1")


@pytest.mark.slow
def test_a_killed_worker_gives_back_what_it_held(start: Callable[..., Worker]) -> None:
    """Slots, tokens and money of open reservations come back in a second; what was spent stays spent, exactly."""
    limits = {"usd_day": 1000, "parallel": 5, "tpm": 1000}
    killed, other = start(**limits), start(**limits)
    for _ in range(5):
        assert killed.do("reserve 200 100")
    killed.do("settle 150 90")
    assert killed.do("reserve 50 500")
    assert not other.do("reserve 1 1")
    killed.kill()
    eventually(lambda: other.do("reserve 800 910"), 1.0)
    other.do("settle 0 0")
    assert not other.do("reserve 0 911"), "what the dead worker spent was forgotten"
    assert other.do("reserve 0 910")


@pytest.mark.slow
def test_budgets_survive_all_workers(start: Callable[..., Worker]) -> None:
    """What was spent is known after every process was killed."""
    worker = start(usd_day=1000)
    worker.do("reserve 0 900")
    worker.do("settle 0 600")
    worker.kill()
    again = start(usd_day=1000)
    assert not again.do("reserve 0 401")
    assert again.do("reserve 0 400")


def test_a_seat_for_each_and_no_more(tmp_path: Path) -> None:
    """Workers beyond the seats are refused with the setting that mends it; a seat is free again when one leaves."""
    stores = [SharedStore(tmp_path) for _ in range(SEATS)]
    with pytest.raises(OSError, match=r"gateway\.workers"):
        SharedStore(tmp_path)
    asyncio.run(stores[3].close())
    SharedStore(tmp_path)


def test_the_file_is_reused_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of ended windows make room for new ones; only when all are in use is one refused."""
    monkeypatch.setattr("gateway.limits.shared.CAPACITY", 3)
    worker = subject(tmp_path)
    limits: Limits = {("account", name): Limit("account", name, parallel=1) for name in "abcd"}
    for name in "abc":
        worker.reserve(worker.plan(limits, name))
    with pytest.raises(StoreUnavailable, match="fewer subjects"):
        worker.plan(limits, "d")
    worker.clock.now += 2 * 3600
    worker.tick()
    worker.reserve(worker.plan(limits, "d"))
    assert worker.refused(worker.plan(limits, "d"))
    assert worker.reserve(worker.plan(limits, "a"))


@example(steps=SPENT_AND_KILLED)
@given(steps=STEPS)
@settings(max_examples=examples(60), deadline=None)
def test_two_workers_never_overspend(steps: list[Step]) -> None:
    """Whatever two workers do, and wherever one is killed: never more than the limit, and in the end all is there."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        clock = Clock()

        def make(_number: int) -> Subject:
            return Subject(LeasedLimiter(SharedStore(Path(folder), 2, clock), NEVER_S, clock), clock, runner.run)

        def kill(killed: Subject) -> None:
            store = killed.limiter._store
            assert isinstance(store, SharedStore)
            os.close(store._seat_file)  # all that the kernel does to the shared memory of a killed process
            clock.now += REAP_S

        house = House(make, kill)
        for step in steps:
            house.step(step)
        house.end()


@pytest.mark.slow
def test_workers_at_full_speed(start: Callable[..., Worker]) -> None:
    """Two processes that reserve and settle as fast as they can spend all of a budget and not a bit more."""
    workers = [start(usd_day=200_000) for _ in range(2)]
    for worker in workers:
        worker.send("hammer 0 100")
    spent = [int(worker.answer()) for worker in workers]
    assert 200_000 - 100 < sum(spent) <= 200_000
    assert min(spent) > 10_000
