"""The audit log."""

from __future__ import annotations

from tests.dashboards import seed
from tests.dashboards.conftest import Person


def test_what_was_done_is_listed_newest_first(mara: Person) -> None:
    """The reveal just made stands above what was done before."""
    mara.send(f"/snapshots/{seed.SNAPSHOT}/reveal", reason="To check the scrubbing")
    page = mara.get("/audit")
    assert page.index("revealed prompts") < page.index("promoted it") < page.index("made the account")


def test_the_log_is_narrowed_by_the_address(mara: Person) -> None:
    """Actor, kind and text narrow it down."""
    page = mara.get("/audit?actor=mara&kind=enforce&q=template")
    assert "put a suspension in force" in page
    assert "promoted it" not in page
    assert "made a key" not in page


def test_a_row_says_what_was_and_is(mara: Person, open_alerts: dict[str, str]) -> None:
    """Before and after stand beside the reason, and the text of either is searched."""
    mara.send(
        f"/alerts/{open_alerts['loom-analytics']}/decide",
        decision="dismiss",
        finding="other",
        note="Their <i>nightly</i> report",
    )
    page = mara.get("/audit?q=dismissed")
    assert "state open → dismissed" in page
    assert "“Their &lt;i&gt;nightly&lt;/i&gt; report”" in page
    assert "made a key" not in page


def test_nothing_found_says_so(mara: Person) -> None:
    """An empty result has a way out."""
    assert "Nothing matches." in mara.get("/audit?q=zzzzzz")
