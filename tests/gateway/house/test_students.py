"""Several houses on one control plane: one serves its students, and their addresses are its alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.house import students
from gateway.house.students import Students
from gateway.ledger import registry
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from tests.control_plane import fresh


@pytest.fixture
def database(control_url: str) -> Iterator[Database]:
    """A control plane with one student to serve."""
    database = fresh(control_url)
    with database.write() as connection:
        student = registry.Student(
            *("tickets", 1, "tickets", "chat.completions", "ab", "f" * 64, "teacher", "/nowhere", "trained", now()),
            *(10, 2048, "Apache-2.0", {}),
        )
        registry.add(connection, student, "test")
    yield database
    database.close()


@dataclass
class Kept:
    """Stands for a keeper whose server is ready at once."""

    url: str
    status: Any = None
    running: bool = False

    def start(self) -> None:
        """Be ready."""
        self.running, self.status = True, SimpleNamespace(state="ready", url=self.url)

    async def stop(self) -> None:
        """Be gone."""
        self.running = False


@dataclass
class House:
    """A house on the control plane, and the keepers that it has made."""

    database: Database
    url: str
    made: list[Kept] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Move in."""
        keep: Any = self._keep
        self.students = Students(self.database, keep, frozenset())

    def _keep(self, student: registry.Student) -> Kept:
        self.made.append(Kept(self.url))
        return self.made[-1]

    @property
    def serves(self) -> bool:
        """Does a server of its run?"""
        return any(kept.running for kept in self.made)

    def address(self) -> str | None:
        """What the registry says of the student."""
        with self.database.read() as connection:
            return registry.get(connection, "tickets@1").url

    async def tick(self, times: int = 2) -> None:
        """Let it look at the registry."""
        for _ in range(times):
            await self.students.reconcile()


async def test_two_houses_do_not_overwrite_each_other(database: Database) -> None:
    """The second serves nothing and leaves the address alone; when the first has ended it takes over."""
    first, second = House(database, "http://127.0.0.1:1"), House(database, "http://127.0.0.1:2")
    for _ in range(3):
        await first.tick()
        await second.tick()
        assert (first.serves, second.serves, first.address()) == (True, False, first.url)
    await first.students.stop()
    assert (first.serves, first.address()) == (False, None)
    await second.tick()
    assert (second.serves, second.address()) == (True, second.url)
    await second.students.stop()
    assert second.address() is None


async def test_a_house_that_never_served_clears_nobodys_address(database: Database) -> None:
    """Its end is none of the other's business."""
    first, second = House(database, "http://127.0.0.1:1"), House(database, "http://127.0.0.1:2")
    await first.tick()
    await second.tick()
    await second.students.stop()
    await first.tick()
    assert (first.serves, first.address()) == (True, first.url)
    await first.students.stop()


async def test_who_loses_the_right_stops_after_a_while(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that was cut for a moment costs no student its server; another house that took over does."""
    first, second = House(database, "http://127.0.0.1:1"), House(database, "http://127.0.0.1:2")
    await first.tick()
    first.students._right.close()
    await second.tick()
    await first.tick()
    assert (first.serves, second.serves, first.address()) == (True, True, second.url)
    monkeypatch.setattr(students, "PATIENCE_S", 0.0)
    await first.tick()
    await first.students.stop()
    assert (first.serves, first.address()) == (False, second.url)
    await second.students.stop()


async def test_a_database_that_is_away_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student goes on, at its address."""
    house = House(database, "http://127.0.0.1:1")
    await house.tick()

    def away() -> bool:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(house.students._right, "held", away)
        patched.setattr(students, "PATIENCE_S", 0.0)
        await house.tick()
        assert (house.serves, house.address()) == (True, house.url)
    await house.students.stop()
