"""What may train, by the rules of the data, on real rows of a lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from distiller.selection import RULES, Rights, Selection, request_of, rights_now, select, task_like
from distiller.splitting import Sizes, split
from gateway.ledger import alerts, consents, opt_outs
from gateway.ledger.errors import InvalidValue, NotFound
from gateway.ledger.identifiers import from_rfc3339, to_rfc3339
from tests.distiller.house import BEGIN, FORM, House, record, records

TEXT = "my wiki has been down since Monday."
SKELETON = record(0, TEXT)["fingerprint"]["skeleton"]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def chosen(house: House, **options: Any) -> Selection:
    """Select like the first record, with the rights of now."""
    task = task_like(house.lake, house.settings, "tickets", "r00000")
    with house.database.read() as connection:
        return select(house.lake, task, rights_now(connection, task.teacher), **options)


EXCLUDED: dict[str, dict[str, Any]] = {
    "origin": {"origin": "synthetic"},
    "no_store": {"store": False},
    "no_consent": {"account": "other"},
    "before_consent": {"time": to_rfc3339(BEGIN - timedelta(days=2))},
    "not_the_teacher": {"model": "tickets@1", "model_role": "student"},
    "failed": {"status": 499},
    "no_text": {"messages": None},
    "unfinished": {"finish_reason": "length"},
    "other_shape": {"tools": ["search"]},
    "opted_out": {"user": "leaver"},
    "student_in_conversation": {"fingerprint": {"skeleton": SKELETON, "conversation": "mixed"}},
    "empty": {"response": {"content": "  ", "choices": 1}},
    "incomplete": {"extra": None},
}


def test_a_student_s_words_of_before_the_selection_count(house: House) -> None:
    """They are in the prompts of the conversation's later turns, whenever it is from which rows are taken."""
    talk = EXCLUDED["student_in_conversation"]
    house.log([
        record(0, "the certificate of example.org expired"),
        record(1, "and now?", model="tickets@1", model_role="student", **talk),
        record(2, TEXT, **talk),
    ])  # fmt: skip
    later = from_rfc3339(record(2, TEXT)["time"])
    selection = chosen(house, since=later)
    assert selection.rows == ()
    assert selection.left_out == {"student_in_conversation": 1}


@pytest.mark.parametrize("reason", EXCLUDED)
def test_every_reason_leaves_a_row_out_and_is_counted(house: House, reason: str) -> None:
    """A row that fails one rule is left out and counted under it; its good neighbour stays."""
    with house.database.write() as connection:
        opt_outs.put(connection, "shop", "leaver", "test")
    rows = [record(0, "the certificate of example.org expired"), record(1, TEXT, **EXCLUDED[reason])]
    if reason == "student_in_conversation":
        rows.append(record(2, "and now?", model="tickets@1", model_role="student", **EXCLUDED[reason]))
    house.log(rows)
    selection = chosen(house)
    assert [row.id for row in selection.rows] == ["r00000"]
    other = {"not_the_teacher": 1} if reason == "student_in_conversation" else {}
    assert selection.left_out == {reason: 1} | other


def test_every_row_says_by_what_right_it_is_in(house: House) -> None:
    """Consent with its id and date, `store`, who answered under which licence, and where the row came from."""
    house.log([record(0, "a")])
    with house.database.read() as connection:
        consent = consents.in_force(connection)["shop"]
    assert chosen(house).rows[0].reason == (
        f"consent {consent.id} to training, version 1, of 2026-10-31; store: true; "
        "answered by teacher (Apache-2.0); live"
    )


def test_an_account_gives_no_more_than_the_cap(house: House) -> None:
    """Above the cap its rows are drawn, the same ones each time, and what is left out is counted."""
    with house.database.write() as connection:
        consents.grant(connection, "other", "test", time=BEGIN - timedelta(days=1))
    house.log([*records(40), *(fields | {"id": f"o{i}", "account": "other"} for i, fields in enumerate(records(5, 2)))])
    first, again = (chosen(house, most_per_account=10) for _ in range(2))
    accounts = [row.account for row in first.rows]
    assert (accounts.count("shop"), accounts.count("other")) == (10, 5)
    assert first.left_out["over_cap"] == 30
    assert first.rows == again.rows
    assert chosen(house).left_out.get("over_cap") is None


def test_no_rule_is_untested() -> None:
    """Every rule has a case here: the two that need more than another record have tests of their own."""
    assert {rule.reason for rule in RULES} == {*EXCLUDED, "account_barred", "licence"}


def test_a_row_says_store_or_stays_out(house: House) -> None:
    """`store` must be there and true: a record without it is left out, live or imported."""
    house.log([record(0, "a"), record(1, "b", store=None), record(2, "c", store=None, origin="imported")])
    assert chosen(house).left_out == {"no_store": 2}


def test_imported_rows_need_store_and_consent_too(house: House) -> None:
    """An imported row with both may train."""
    house.log([record(0, "a"), record(1, "b", origin="imported")])
    assert [row.id for row in chosen(house).rows] == ["r00000", "r00001"]


@pytest.mark.parametrize(("decision", "kept"), [(None, 0), ("suspend", 0), ("dismiss", 2)])
def test_an_alert_bars_its_account_until_dismissed(house: House, decision: Any, kept: int) -> None:
    """An open or confirmed alert bars every row of its account; a dismissal restores them."""
    house.log([record(0, "a"), record(1, "b")])
    with house.database.write() as connection:
        alert, _ = alerts.raise_or_update(connection, "shop", "high", 0.9, [], {})
        if decision:
            alerts.decide(connection, alert.id, decision, "op", "looked into it")
    selection = chosen(house)
    assert (len(selection.rows), selection.left_out.get("account_barred", 0)) == (kept, 2 - kept)


def test_a_withdrawal_ends_consent_at_once(house: House) -> None:
    """After a withdrawal no row is left; a new consent covers only later rows."""
    house.log([record(0, "a"), record(1, "b")])
    with house.database.write() as connection:
        consents.withdraw(connection, "shop", "test")
    assert chosen(house).left_out == {"no_consent": 2}
    with house.database.write() as connection:
        consents.grant(connection, "shop", "test", time=BEGIN + timedelta(seconds=1))
    assert [row.id for row in chosen(house).rows] == ["r00001"]


def test_a_licence_that_forbids_it_ends_the_selection(house: House) -> None:
    """Answers of a teacher that may not be distilled are refused as a whole, with the setting that says so."""
    house.log([record(0, "a")])
    models = tuple(replace(model, distillable=False) for model in house.settings.models)
    with pytest.raises(InvalidValue, match="distillable = true"):
        task_like(house.lake, replace(house.settings, models=models), "tickets", "r00000")
    rights = Rights({}, frozenset(), models[0])
    licence = next(rule for rule in RULES if rule.reason == "licence")
    assert licence.applies(record(0, "a"), rights)


def test_another_skeleton_is_another_task(house: House) -> None:
    """Rows of another system prompt, format or endpoint are not looked at, so they are not counted either."""
    other = record(1, "b", messages=[{"role": "user", "content": "b"}])
    other["fingerprint"] = {"skeleton": "0" * 32}
    house.log([record(0, "a"), other])
    selection = chosen(house)
    assert (len(selection.rows), selection.left_out) == (1, {})


def test_since_leaves_older_rows_alone(house: House) -> None:
    """`--since` bounds what is looked at."""
    house.log(records(10))
    assert len(chosen(house, since=BEGIN + timedelta(seconds=4)).rows) == 6


def test_repeated_prompts_and_personal_data(house: House) -> None:
    """Of equal prompts the first stays; what is personal is replaced before it is compared, and both are counted."""
    house.log([record(0, "write to ana@x.example"), record(1, "Write to BO@y.example"), record(2, "another one")])
    selection = chosen(house)
    assert [row.text for row in selection.rows] == ["write to [EMAIL_1]", "another one"]
    assert (selection.left_out, selection.scrubbed) == ({"duplicate": 1}, {"EMAIL": 2})


@pytest.mark.parametrize(
    "place",
    [
        lambda fields: fields["extra"].update(structured_outputs=FORM),
        lambda fields: fields["extra"].update({"parameters.structured_outputs": FORM}),
        lambda fields: fields["parameters"].update(structured_outputs=FORM),
    ],
)
def test_the_request_is_rebuilt_with_what_shapes_the_answer(place: Callable[[dict[str, Any]], None]) -> None:
    """Messages, sampling and output format come back, wherever the record keeps them; delivery (stream) does not."""
    fields = record(0, TEXT, extra={"request_id": "x"})
    place(fields)
    assert request_of(fields) == {
        "messages": fields["messages"],
        "temperature": 0.3,
        "max_tokens": 8,
        "structured_outputs": FORM,
    }


def test_an_unknown_example_names_the_remedy(house: House) -> None:
    """A request that is not in the lake, or was answered by no teacher, ends with what to do."""
    with pytest.raises(NotFound, match="traffic tail"):
        task_like(house.lake, house.settings, "tickets", "nothing")
    house.log([record(0, "a", model="tickets@1", model_role="student")])
    with pytest.raises(InvalidValue, match="no teacher"):
        task_like(house.lake, house.settings, "tickets", "r00000")


def test_the_split_goes_forward_in_time_and_keeps_conversations_together(house: House) -> None:
    """Each split is older than the next, none shares a conversation, and only the stragglers are missing."""
    rows = []
    for number, fields in enumerate(records(300)):
        # Every third conversation comes back 100 seconds later.
        talk = f"talk{number - 100 if number > 100 and number % 3 == 0 else number}"
        rows.append(fields | {"fingerprint": {**fields["fingerprint"], "conversation": talk}})
    house.log(rows)
    selection = chosen(house)
    parts = split(selection.rows, Sizes(gate=80, calibration=40, least_train=50))
    named = parts.named()
    assert len(parts.gate) >= 80
    assert len(parts.calibration) >= 40
    assert max(row.time for row in parts.train) < min(row.time for row in parts.calibration)
    assert max(row.time for row in parts.calibration) < min(row.time for row in parts.gate)
    talks = [{row.conversation for row in part} for part in named.values()]
    assert sum(map(len, talks)) == len(set.union(*talks))
    assert sum(map(len, named.values())) + parts.straddling == len(selection.rows)
    assert 0 < parts.straddling < 60


def test_too_few_rows_say_how_many_are_needed(house: House) -> None:
    """A split that can't be made says what it needs and which options ask for less."""
    house.log(records(30))
    with pytest.raises(InvalidValue, match=r"30 usable rows are too few.*900.*--gate-rows"):
        split(chosen(house).rows, Sizes())


def test_times_survive_the_lake(house: House) -> None:
    """A row's time is the record's, to the millisecond."""
    house.log([record(0, "a", time="2026-11-05T10:00:00.123Z")])
    assert chosen(house).rows[0].time == from_rfc3339("2026-11-05T10:00:00.123Z")
