"""What happens to a house while it serves: a schedule made from a seed, and who carries it out.

Backends and the house's own processes are disturbed side by side, so that a worker also dies while a backend is
stalled; of each, one after the other. After a third of a long run one worker and the ingester are left in peace, so
that their memory is seen over a long life.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.rig.house import PING_S, WORKERS, House, HouseProblem, is_alive, signal_process
from benchmarks.rig.reconciliation import Death

Kind = Literal[
    "kill a backend",
    "stall a backend",
    "kill all backends",
    "kill a worker",
    "drain a worker",
    "reload",
    "reload a broken file",
    "kill the ingester",
]
BACKENDS: tuple[Kind, ...] = ("kill a backend", "stall a backend", "kill all backends")
HOUSE: tuple[Kind, ...] = ("kill a worker", "drain a worker", "reload", "reload a broken file", "kill the ingester")
ROUND_S = {BACKENDS: 60.0, HOUSE: 150.0}  # in which each of them happens once
BEGIN, END = 0.05, 0.85  # of the time: what is disturbed last has to recover before the end
LASTING_S = {"kill a backend": (1.0, 6.0), "stall a backend": (2.0, 14.0), "kill all backends": (1.0, 4.0)}
RECOVERY_S = 90.0
DRAIN_S = 60.0  # more than the longest answer under way
OTHER_PING_S = PING_S + 1


@dataclass(frozen=True)
class Event:
    """A disturbance: `at` so many seconds, of the `victim`th of those there are, `lasting` so long."""

    at: float
    kind: Kind
    victim: int
    lasting: float


def schedule(seconds: float, seed: int) -> tuple[list[Event], list[Event]]:
    """Return the events of the backends and those of the house; every kind comes at least once."""
    source = random.Random(seed)
    return _lane(BACKENDS, seconds, source), _lane(HOUSE, seconds, source)


def _lane(kinds: tuple[Kind, ...], seconds: float, source: random.Random) -> list[Event]:
    rounds = max(1, round(seconds / ROUND_S[kinds]))
    events = []
    for number in range(rounds):
        in_peace = number >= max(1, rounds // 3)
        order = source.sample(kinds, len(kinds))
        for place, kind in enumerate(order):
            share = (number * len(kinds) + place + source.uniform(0.0, 0.5)) / (rounds * len(kinds))
            victim = WORKERS - 1 if in_peace and kinds is HOUSE else source.randrange(1000)
            lasting = source.uniform(*LASTING_S.get(kind, (0.0, 0.0)))
            if not (in_peace and kind == "kill the ingester"):
                events.append(Event((BEGIN + (END - BEGIN) * share) * seconds, kind, victim, lasting))
    return events


class Conductor:
    """Carries events out. `deaths` are of workers; `violations` is what did not go as it must."""

    def __init__(self, house: House) -> None:
        self.deaths: list[Death] = []
        self.violations: list[str] = []
        self.done: list[str] = []
        self._house = house
        self._ping_s = PING_S
        self._acts: dict[Kind, Callable[[Event], str]] = {
            "kill a backend": self._kill_backend,
            "stall a backend": self._stall_backend,
            "kill all backends": self._kill_all_backends,
            "kill a worker": self._kill_worker,
            "drain a worker": self._drain_worker,
            "reload": self._reload,
            "reload a broken file": self._reload_broken,
            "kill the ingester": self._kill_ingester,
        }

    async def play(self, events: Sequence[Event]) -> None:
        """Carry out events by the clock, one after the other; a late one does not wait."""
        began = time.monotonic()
        for event in events:
            await asyncio.sleep(began + event.at - time.monotonic())
            moment = time.monotonic()
            try:
                words = await asyncio.to_thread(self._acts[event.kind], event)
            except (HouseProblem, OSError) as problem:  # such as of a process that has ended by itself
                words = str(problem)
                self.violations.append(f"{event.kind}: {problem}")
            took = time.monotonic() - moment
            self.done.append(event.kind)
            print(f"{moment - began:7.1f} s  {event.kind}: {words} ({took:.1f} s)", flush=True)

    # --- backends ---

    def _kill_backend(self, event: Event) -> str:
        port = self._backend(event)
        self._house.kill_upstream(port)
        time.sleep(event.lasting)
        self._house.start_upstream(port)
        return f"{port}, for {event.lasting:.1f} s"

    def _stall_backend(self, event: Event) -> str:
        process = self._house.upstreams[self._backend(event)]
        process.send_signal(signal.SIGSTOP)
        time.sleep(event.lasting)
        process.send_signal(signal.SIGCONT)
        return f"{self._backend(event)}, for {event.lasting:.1f} s"

    def _kill_all_backends(self, event: Event) -> str:
        for port in self._house.ports:
            self._house.kill_upstream(port)
        time.sleep(event.lasting)
        for port in self._house.ports:
            self._house.start_upstream(port)
        return f"for {event.lasting:.1f} s"

    def _backend(self, event: Event) -> int:
        return self._house.ports[event.victim % len(self._house.ports)]

    # --- the house ---

    def _kill_worker(self, event: Event) -> str:
        """Kill a worker. It is stopped a moment before, so that whose connections it takes along is known exactly."""
        slot, pid = self._worker(event)
        began = time.time()
        signal_process(pid, signal.SIGSTOP)
        while is_running(pid):
            time.sleep(0.001)
        ports = self._house.connections_of(pid)
        signal_process(pid, signal.SIGKILL)
        self._house.wait(lambda: not is_alive(pid), RECOVERY_S, f"{slot} did not die")
        self.deaths.append(Death(slot, "killed", began, time.time(), ports))
        self._await_successor(slot, pid)
        return f"{slot}, with {len(ports)} connections"

    def _drain_worker(self, event: Event) -> str:
        slot, pid = self._worker(event)
        began = time.time()
        signal_process(pid, signal.SIGTERM)
        self._house.wait(lambda: not is_alive(pid), DRAIN_S, f"{slot} did not end its answers")
        death = Death(slot, "drained", began, time.time())
        self.deaths.append(death)
        self._await_successor(slot, pid)
        return f"{slot}, ended after {death.ended - began:.1f} s"

    def _kill_ingester(self, event: Event) -> str:
        pid = self._house.wait(lambda: self._house.pid_of("ingester"), RECOVERY_S, "there is no ingester")
        signal_process(pid, signal.SIGKILL)
        self._house.wait(
            lambda: self._house.pid_of("ingester") not in (None, pid), RECOVERY_S, "the ingester did not come back"
        )
        return str(pid)

    def _reload(self, event: Event) -> str:
        """Change a setting that every worker must take over, and nothing else."""
        self._ping_s = OTHER_PING_S if self._ping_s == PING_S else PING_S
        self._house.write_settings(self._ping_s)
        status, rows, words = self._house.command("config", "reload")
        wanted = {"changed": ["gateway.ping_interval_s"], "restart": [], "error": None}
        wrong = [row for row in rows if {name: row[name] for name in wanted} != wanted]
        if status or wrong or len(rows) != WORKERS:
            raise HouseProblem(f"status {status}, {rows}: {words}")
        return f"ping_interval_s = {self._ping_s}"

    def _reload_broken(self, event: Event) -> str:
        """Every worker must refuse a file with a mistake, whole: what it holds besides would refuse all requests."""
        before = self._house.workers()
        self._house.write_settings(self._ping_s, broken=True)
        try:
            status, rows, words = self._house.command("config", "reload")
            if status != 2 or rows or "context_length" not in words:
                raise HouseProblem(f"the command: status {status}, {rows}: {words}")
            assert self._house.up is not None
            self._house.up.send_signal(signal.SIGHUP)

            def refused() -> bool:
                after = self._house.workers()
                return after.keys() == before.keys() and all(
                    after[slot].error and after[slot].digest == report.digest and after[slot].number > report.number
                    for slot, report in before.items()
                )

            self._house.wait(refused, RECOVERY_S, "not every worker has refused the file")
        finally:
            self._house.write_settings(self._ping_s)
        return "refused by the command and by every worker"

    def _worker(self, event: Event) -> tuple[str, int]:
        workers = self._house.wait(
            lambda: len(found := self._house.workers()) == WORKERS and found, RECOVERY_S, "a worker is missing"
        )
        slot = sorted(workers)[event.victim % WORKERS]
        return slot, workers[slot].pid

    def _await_successor(self, slot: str, pid: int) -> None:
        def succeeded() -> bool:
            report = self._house.workers().get(slot)
            return report is not None and report.pid != pid

        self._house.wait(succeeded, RECOVERY_S, f"{slot} was not started again")


def is_running(pid: int) -> bool:
    """Whether a process has not been stopped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("R", "S", "D")
    except FileNotFoundError:
        return False
