"""What the outcomes say: what is wrong with each, and the matrix for docs/conformance.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.conformance.driver import TIMEOUT_S
from tests.conformance.faults import FAULTS, GIANT, TEXT
from tests.conformance.suite import SDKS, Case, Outcome, Run

INTRODUCTION = """# Conformance: what clients get when a backend fails

Written by `python -m tests.conformance`; a test holds it true. Each row is a request of a stock SDK, without retries
of its own, to a real gateway process in front of a scripted upstream that plays the fault: what the SDK's user got,
what the record says, and what was billed. `whole` is an answer that is not streamed. Each case has a backend of its
own, so that no failure is known from the one before; where its connection breaks before content it is asked twice.

Nothing is cut short in silence: a stream that can't be finished ends in an exception. What reached the client is
billed, and nothing else; where the backend did not say how much that was it is `counted`. The words of a backend's
5xx, 401 or 404 reach no client.
"""


def expected(case: Case) -> str:
    """Return the text that the healthy answer has."""
    if case.endpoint == "embeddings":
        return "1 × 2 numbers"
    return f"{GIANT} characters" if case.fault.name == "giant chunk" else TEXT


def violations(outcome: Outcome) -> Iterator[str]:
    """Say what breaks the contract in an outcome; nothing for a good one."""
    if len(outcome.records) != 1:
        yield f"{len(outcome.records)} records"
        return
    [record] = outcome.records
    if outcome.seconds > TIMEOUT_S / 2:
        yield f"the client waited {outcome.seconds} s"
    if outcome.case.fault.answered:
        yield from _wrong_with_an_answer(outcome, record)
    else:
        yield from _wrong_with_a_failure(outcome, record)


def _wrong_with_an_answer(outcome: Outcome, record: dict[str, Any]) -> Iterator[str]:
    if outcome.raised is not None or outcome.text != expected(outcome.case):
        yield f"no answer: {outcome.text!r}, {outcome.raised}"
    if record["status"] != 200 or record.get("error") is not None:
        yield f"recorded as {_recorded(record)}"
    if record["cost"] <= 0 or record["usage"]["source"] != "exact":
        yield f"billed {_billed(record)}"


def _wrong_with_a_failure(outcome: Outcome, record: dict[str, Any]) -> Iterator[str]:
    raised = outcome.raised
    if raised is None:
        yield f"cut short in silence: {outcome.text!r}"
        return
    if raised["kind"] in ("APIConnectionError", "APITimeoutError"):
        yield f"the gateway broke off: {raised}"
    if "secret" in raised["message"]:
        yield f"a backend's words reached the client: {raised['message']}"
    if not raised["code"]:
        yield "an error without a code"
    if record.get("error") is None or record["status"] != (raised["status"] or 200):
        yield f"recorded as {_recorded(record)}, but the client got {raised}"
    if bool(outcome.text) != (record["cost"] > 0):
        yield f"the client got {outcome.text!r} and was billed {record['cost']}"


def table(run: Run) -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *_sections(run)])


def _sections(run: Run) -> Iterator[str]:
    for endpoint in dict.fromkeys(endpoint for sdk in SDKS for endpoint in sdk.endpoints):
        sdks = [sdk for sdk in SDKS if endpoint in sdk.endpoints]
        titles = [f"`{sdk.package}` {run.versions[sdk.name]}" for sdk in sdks]
        yield f"## `/v1/{endpoint.replace('.', '/')}`\n"
        yield _row(["fault", "asked", *titles, "recorded", "billed"])
        yield "|" + "---|" * (len(titles) + 4)
        for fault in FAULTS:
            yield from _rows([o for o in run.outcomes if o.case.endpoint == endpoint and o.case.fault is fault])
        yield ""


def _rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Return a fault's rows: one for each mode, or a single one where they come to the same."""
    by_mode: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: SDKS.index(outcome.case.sdk)):
        by_mode.setdefault(outcome.case.mode, []).append(outcome)
    rows = {mode: (*map(_got, found), *_ledger(found)) for mode, found in by_mode.items()}
    same = len(rows) == 2 and rows["whole"] == rows["stream"]
    for mode in ("whole", "stream"):
        if mode in rows and not (same and mode == "stream"):
            yield _row([outcomes[0].case.fault.name, "either" if same else mode, *rows[mode]])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _got(outcome: Outcome) -> str:
    wrong = "; ".join(violations(outcome))
    if wrong:
        return f"**{wrong.replace('|', '/')}**"
    if outcome.raised is None:
        return "the answer"
    raised = outcome.raised
    status = f" {raised['status']}" if raised["status"] else ""
    told = f"`{raised['kind']}`{status} {raised['code']}"
    return f"“{outcome.text}”, then {told}" if outcome.text else told


def _ledger(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """Return what was recorded and billed; it must not depend on the client."""
    found = {(_recorded(record), _billed(record)) for outcome in outcomes for record in outcome.records}
    recorded, billed = (" or ".join(sorted(words)) for words in zip(*found, strict=True))
    return recorded, billed


def _recorded(record: dict[str, Any]) -> str:
    return f"{record['status']} {record.get('error') or ''}".strip()


def _billed(record: dict[str, Any]) -> str:
    if not record["cost"]:
        return "nothing"
    usage = record["usage"]
    # An estimate of the prompt depends on how an SDK spaces its JSON.
    prompt = usage["input_tokens"] if usage["source"] == "exact" else "its prompt"
    return f"{prompt} + {usage['output_tokens']} tokens, {usage['source']}"
