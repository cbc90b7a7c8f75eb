"""Imports: good lines in, bad ones aside with number and reason, the same file twice adds nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from gateway.ledger import accounts, consents, declared_uses
from gateway.ledger.database import Database
from gateway.ledger.importing import import_accounts, import_traffic
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import today
from gateway.settings import Settings
from tests.gateway.ledger.records import record


def _lines(*rows: object) -> list[str]:
    return [row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows]


def _lake(settings: Settings) -> Lake:
    return Lake(settings.data_dir / "lake" / "traffic")


def _aside(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_history_is_imported_with_its_own_times(settings: Settings) -> None:
    """Rows keep their time, are dated by the day they came, and have fingerprints as live ones do."""
    report = import_traffic(_lines(record("a", time="2026-01-05T10:00:00Z"), record("b")), settings)
    assert (report.rows, report.already, report.refused, report.rejected_file) == (2, 0, 0, None)
    found = _lake(settings).record("a")
    assert found is not None
    assert found["time"] == "2026-01-05T10:00:00.000Z"
    assert len(found["fingerprint"]["minhash"]) == 64
    assert _lake(settings).days() == [today()]


def test_imported_rows_never_pass_for_live_ones(settings: Settings) -> None:
    """Whatever the file says, only the gateway makes live rows; synthetic ones stay synthetic."""
    rows = [record("a"), record("b", origin="live"), record("c", origin="synthetic"), record("d", origin="imported")]
    import_traffic(_lines(*rows), settings)
    found = {row["id"]: row["origin"] for row in _lake(settings).read(["id", "origin"]).to_pylist()}
    assert found == {"a": "imported", "b": "imported", "c": "synthetic", "d": "imported"}


def test_the_same_file_twice_adds_nothing(settings: Settings) -> None:
    """Ids that are known are left alone, also within one file, where the first line counts."""
    lines = _lines(record("a", status=200), record("b"), record("a", status=500))
    first = import_traffic(lines, settings)
    assert (first.rows, first.already) == (2, 1)
    second = import_traffic([*lines, *_lines(record("c"))], settings)
    assert (second.rows, second.already) == (1, 3)
    assert sorted(_lake(settings).read(["id"])["id"].to_pylist()) == ["a", "b", "c"]
    assert _lake(settings).read(["status"], pc.field("id") == "a")["status"].to_pylist() == [200]


def test_bad_lines_are_set_aside_and_the_rest_goes_on(settings: Settings) -> None:
    """Each bad line stands in the rejected file, whole, with its number and what to mend."""
    lines = _lines(record("a"), "{broken\n", record("x", status="ok"), "\n", "[1]\n", '{"id": NaN}\n', record("b"))
    report = import_traffic(lines, settings)
    assert (report.rows, report.refused) == (2, 4)
    assert [number for number, _reason in report.rejected] == [2, 3, 5, 6]
    aside = _aside(report.rejected_file)
    assert [(row["line"], row["text"]) for row in aside[:2]] == [(2, "{broken"), (3, lines[2].rstrip("\n"))]
    assert "is no JSON" in aside[0]["reason"]
    assert aside[1]["reason"] == 'status must be a whole number, not "ok"'
    assert report.rejected_file is not None
    assert report.rejected_file.parent == settings.data_dir / "rejected"


def test_batches_are_committed_as_they_come(settings: Settings) -> None:
    """A large file goes in piece by piece, told to whoever watches, so that memory does not grow with it."""
    size = 50
    seen: list[tuple[int, int]] = []

    def lines() -> Iterator[str]:
        for number in range(2 * size + 5):
            yield json.dumps(record(str(number), messages=[]))

    def progress(count: int) -> None:
        seen.append((count, _lake(settings).read(["id"]).num_rows))

    report = import_traffic(lines(), settings, progress, size)
    assert report.rows == 2 * size + 5
    assert seen == [(size, size), (2 * size, 2 * size), (2 * size + 5, 2 * size + 5)]


def test_accounts_come_with_consent_and_declared_uses(settings: Settings, database: Database) -> None:
    """One line makes the account, its consent and its uses."""
    row = {
        "account": "app",
        "created": "2026-01-01T00:00:00Z",
        "tier": "pro",
        "consent": {"purpose": "training", "version": "2", "time": "2026-01-02T00:00:00Z"},
        "declared_uses": [{"use": "nightly labels", "cap_per_day": 500, "until": "2027-01-01T00:00:00Z"}],
        "payment": "hash",
        "signup_network": "10.0.0.0/24",
        "labels": {"kind": "benign"},
    }
    report = import_accounts(_lines(row, {"account": "plain"}), settings, database, "tester")
    assert (report.rows, report.refused) == (2, 0)
    with database.read() as connection:
        account = accounts.get(connection, "app")
        (consent,) = consents.in_force(connection).values()
        (use,) = declared_uses.of_account(connection, "app")
    assert (account.created, account.tier, account.payment) == (datetime(2026, 1, 1, tzinfo=UTC), "pro", "hash")
    assert account.labels == {"kind": "benign"}
    assert (consent.account, consent.version, consent.granted) == ("app", "2", datetime(2026, 1, 2, tzinfo=UTC))
    assert (use.use, use.cap_per_day, use.until) == ("nightly labels", 500, datetime(2027, 1, 1, tzinfo=UTC))


def test_known_accounts_are_left_as_they_are(settings: Settings, database: Database) -> None:
    """A second import changes nothing, and grants no consent again."""
    line = _lines({"account": "app", "consent": {"purpose": "training"}})
    import_accounts(line, settings, database, "tester")
    report = import_accounts(line, settings, database, "tester")
    assert (report.rows, report.already) == (0, 1)
    with database.read() as connection:
        assert len(consents.in_force(connection)) == 1


def test_consent_to_another_purpose_is_not_consent_to_training(settings: Settings, database: Database) -> None:
    """Only what was agreed to counts."""
    import_accounts(_lines({"account": "app", "consent": {"purpose": "support"}}), settings, database, "tester")
    with database.read() as connection:
        assert consents.in_force(connection) == {}


def test_bad_accounts_are_set_aside(settings: Settings, database: Database) -> None:
    """A line that can't be an account leaves nothing behind, and says what is wrong with it."""
    lines = _lines(
        {"account": "two words"},
        {"tier": "pro"},
        {"account": "a", "created": "yesterday"},
        {"account": "b", "declared_uses": [{"cap_per_day": "many"}]},
        {"account": "c", "labels": "none"},
        {"account": "good"},
    )
    report = import_accounts(lines, settings, database, "tester")
    assert (report.rows, report.refused) == (1, 5)
    reasons = [row["reason"] for row in _aside(report.rejected_file)]
    for reason, part in zip(
        reasons, ("without spaces", "account is missing", "created", "`use`", "labels"), strict=True
    ):
        assert part in reason
    with database.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["good"]


def test_an_import_that_was_killed_goes_on(settings: Settings) -> None:
    """The same file again adds what was missing and nothing twice, however far the first attempt got."""
    rows = [record(str(number)) for number in range(25)]

    def dies() -> Iterator[str]:
        yield from _lines(*rows[:17])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_traffic(dies(), settings, batch_rows=5)
    assert len(_lake(settings).read(["id"])) == 15
    report = import_traffic(_lines(*rows), settings, batch_rows=5)
    assert (report.rows, report.already) == (10, 15)
    assert sorted(_lake(settings).read(["id"])["id"].to_pylist()) == sorted(row["id"] for row in rows)
