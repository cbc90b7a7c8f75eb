"""`kill -9` under traffic, of each process in turn: what clients see, what comes back, and what the ledger says."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from tests.real.conftest import RealHouse, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Traffic:
    """Clients that send short requests, each on a connection of its own, and count what comes back."""

    def __init__(self, house: RealHouse) -> None:
        self.house = house
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]

    def _send(self) -> None:
        while not self.stop.is_set():
            with self.house.client(max_retries=0) as client:
                try:
                    client.chat.completions.create(
                        model="teacher", messages=[{"role": "user", "content": "Count to five."}], max_tokens=8
                    )
                    self.outcomes["ok"] += 1
                except openai.APIStatusError as error:
                    self.outcomes[str(error.status_code)] += 1
                    self.stop.wait(0.2)
                except openai.APIConnectionError:
                    self.outcomes["connection"] += 1
                    self.stop.wait(0.2)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def under_traffic(house: RealHouse) -> Iterator[Traffic]:
    """Run a block while clients send, beginning once the first answers have come."""
    with Traffic(house) as traffic:
        wait_for(lambda: traffic.outcomes["ok"] >= 3, 60, "no answers before the kill")
        yield traffic


def assert_ledger_is_whole(house: RealHouse) -> int:
    """Every completed answer is in the lake; returns how many requests were interrupted."""

    def whole() -> list[dict[str, int]]:
        rows = house.command("traffic", "verify", check=False)
        return rows if rows and all(row["completed"] == row["recorded"] for row in rows) else []

    rows = wait_for(whole, 60, "the lake does not hold every completed answer")
    return sum(row["interrupted"] for row in rows)


def test_killed_worker_comes_back_and_the_other_goes_on(house: RealHouse) -> None:
    """A worker's death resets its own connections only; it is replaced, and the ledger stays whole."""
    with under_traffic(house) as traffic:
        victim = house.pid_of("gateway.app", "w0")
        os.kill(victim, signal.SIGKILL)
        answered = traffic.outcomes["ok"]
        wait_for(lambda: traffic.outcomes["ok"] >= answered + 5, 60, "the other worker did not go on")
        wait_for(lambda: _replaced(house, victim), 60, "the worker was not restarted")
    assert set(traffic.outcomes) <= {"ok", "connection"}, traffic.outcomes
    assert_ledger_is_whole(house)


def test_killed_vllm_gives_proper_errors_then_recovers(house: RealHouse) -> None:
    """While vLLM is gone clients get 502 or 503 in OpenAI's form; it is restarted and answers come again."""
    with under_traffic(house) as traffic:
        os.kill(house.pid_of("vllm.entrypoints"), signal.SIGKILL)
        wait_for(lambda: traffic.outcomes["503"] + traffic.outcomes["502"] >= 3, 60, "no proper errors were seen")
        answered = traffic.outcomes["ok"]
        wait_for(lambda: traffic.outcomes["ok"] >= answered + 5, 180, "vLLM did not come back")
    assert set(traffic.outcomes) <= {"ok", "502", "503"}, traffic.outcomes
    assert_ledger_is_whole(house)


def test_killed_parent_takes_its_children_and_leaves_nothing_to_clean(house: RealHouse) -> None:
    """`kill -9` of `up` ends every child; a new start on the same folder works, and the interrupted are shown."""
    before = assert_ledger_is_whole(house)
    with under_traffic(house), house.client(max_retries=0) as client:
        # A long one, which is certainly open: the short ones may all be between two.
        stream = client.chat.completions.create(
            model="teacher", messages=[{"role": "user", "content": "Count to a thousand."}], max_tokens=512, stream=True
        )
        next(iter(stream))
        children = house.children()
        assert len(children) >= 5
        house.stop(signal.SIGKILL)
        wait_for(lambda: not any(_alive(pid) for pid in children), 20, "children outlived their parent")
    house.start()
    house.wait_ready()
    assert house.client().chat.completions.create(
        model="teacher", messages=[{"role": "user", "content": "Hello."}], max_tokens=4
    )
    wait_for(lambda: assert_ledger_is_whole(house) > before, 120, "the request that was open is not interrupted")


def _replaced(house: RealHouse, victim: int) -> bool:
    try:
        return house.pid_of("gateway.app", "w0") != victim
    except StopIteration:
        return False


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
