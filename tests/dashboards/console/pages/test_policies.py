"""The page of policies: written, played, switched; and only what may be automatic."""

from __future__ import annotations

from gateway.ledger import enforcement, policies
from gateway.ledger.database import Database
from tests.dashboards.conftest import Person


def write(mara: Person, **form: str) -> str:
    """Write a policy down and return the page that follows."""
    answer = mara.send("/policies", name="strip-high", note="Collectors.", **form)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_a_policy_is_written_and_played_before_it_is_switched_on(mara: Person, database: Database) -> None:
    """The page that follows says whom it would have hit and what people made of those alerts; nothing is in force."""
    assert "Nothing is ever done to an account before a person has looked" in mara.get("/policies")
    page = write(mara, severity="low")
    assert "strip-high, over the last 14 days" in page
    assert "tallow-research" in page
    assert "people dismissed" in page
    with database.read() as connection:
        assert [policy.enabled for policy in policies.every(connection)] == [False]
        assert {row.policy for row in enforcement.history(connection)} == {None}


def test_a_policy_is_switched_with_a_reason(mara: Person, joel: Person, database: Database) -> None:
    """By whoever is logged in; without a reason nothing happens, and the page says so."""
    write(mara)
    refused = joel.send("/policies/strip-high/switch", on="1", note=" ")
    assert (refused.status_code, "needs a note" in refused.text) == (422, True)
    assert "Switch off" in joel.send("/policies/strip-high/switch", on="1", note="None was dismissed.").text
    with database.read() as connection:
        assert policies.get(connection, "strip-high").switched_by == "joel"
    assert "Switch on" in mara.send("/policies/strip-high/switch", on="0", note="Too broad.").text


def test_a_form_that_makes_no_sense_is_refused_with_its_words(mara: Person) -> None:
    """What was typed is still there, and what is never automatic is refused whatever the form offers."""
    for form, words in (
        ({"action": "suspend"}, "never automatic"),
        ({"leaked": "many"}, "whole number"),
        ({"days": "4000"}, "from the lists"),
        ({"severity": "huge"}, "choose one of"),
    ):
        answer = mara.send("/policies", **{"name": "typed-name", "note": "typed note", **form})
        assert answer.status_code == 422
        assert words in answer.text
        assert "typed-name" in answer.text
    assert mara.client.get("/policies?run=unknown").status_code == 404
