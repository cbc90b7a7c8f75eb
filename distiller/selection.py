"""Which rows of the lake may train a student: deny by default, every exclusion counted under its first reason.

A task is one endpoint and prompt skeleton, those of an example request. A row of the task is used only when nothing in
`RULES` speaks against it: the rules of the data, read from top to bottom.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
import sqlalchemy as sa

from distiller.deduplication import keep_first
from distiller.rows import Row
from distiller.scrubbing import Scrubber
from distiller.slices import slices_of
from gateway.ledger import alerts, consents, opt_outs
from gateway.ledger.consents import Consent
from gateway.ledger.errors import InvalidValue, NotFound
from gateway.ledger.fingerprint import task_skeleton
from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.traffic import from_row
from gateway.settings import ModelSettings, Settings

Record = Mapping[str, Any]

ENDPOINT = "chat.completions"
COLUMNS = [
    "id", "time", "origin", "account", "endpoint", "model", "model_role", "messages", "response", "tools",
    "parameters", "status", "finish_reason", "store", "extra", "skeleton", "conversation", "metadata", "user",
]  # fmt: skip
# What of the recorded parameters makes the same answer again; the rest (stream, n, logprobs) is about its delivery.
REPEATED = (
    "temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "stop", "logit_bias", "response_format",
    "structured_outputs", "chat_template_kwargs",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What is to be learnt: a name, endpoint and skeleton of the request `like`, and the teacher who answered it."""

    name: str
    endpoint: str
    skeleton: str
    teacher: ModelSettings
    like: str


@dataclass(frozen=True)
class Rights:
    """Who agreed to training, who is barred from it, and which teacher's answers the task takes.

    `opted_out`: accounts with those of their users who are not to be learnt from. `student_talks`: conversations in
    which a student has answered.
    """

    consents: Mapping[str, Consent]
    barred: frozenset[str]
    teacher: ModelSettings
    opted_out: frozenset[tuple[str, str]] = frozenset()
    student_talks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Selection:
    """The usable rows, oldest first; `left_out` counts by reason, `scrubbed` by kind of value."""

    rows: tuple[Row, ...]
    left_out: dict[str, int]
    scrubbed: dict[str, int]
    lake_version: int


@dataclass(frozen=True)
class Rule:
    """One reason to leave a row out, `words` for people."""

    reason: str
    words: str
    applies: Callable[[Record, Rights], bool]


def _before_consent(record: Record, rights: Rights) -> bool:
    return from_rfc3339(record["time"]) < rights.consents[record["account"]].granted


def _answered_otherwise(record: Record, rights: Rights) -> bool:
    return record.get("model_role") != "teacher" or record.get("model") != rights.teacher.name


def _of_another_shape(record: Record, rights: Rights) -> bool:
    response = record.get("response") or {}
    tools = record.get("tools") or response.get("tool_calls") or response.get("reasoning")
    return bool(tools) or (response.get("choices") or 1) != 1


def _empty(record: Record, rights: Rights) -> bool:
    content = (record.get("response") or {}).get("content")
    return not isinstance(content, str) or not content.strip()


def _incomplete(record: Record, rights: Rights) -> bool:
    # The skeleton is a hash of the request as it came: rebuilt from the record it must be the same.
    return bool(task_skeleton(record["endpoint"], request_of(record)) != record["fingerprint"]["skeleton"])


RULES = (
    Rule("origin", "made up, not asked by anybody", lambda record, _: record.get("origin") not in ("live", "imported")),
    Rule("no_store", "the request did not say `store: true`", lambda record, _: record.get("store") is not True),
    Rule(
        "no_consent",
        "the account has no consent to training in force",
        lambda record, rights: record["account"] not in rights.consents,
    ),
    Rule("before_consent", "asked before the account consented", _before_consent),
    Rule(
        "account_barred",
        "the account has an open or confirmed alert",
        lambda record, rights: record["account"] in rights.barred,
    ),
    Rule("opted_out", "its end user opted out", lambda record, rights: _user(record) in rights.opted_out),
    Rule("not_the_teacher", "answered by a student or by another model", _answered_otherwise),
    Rule(
        "student_in_conversation",
        "a student has answered in the conversation, so its words may be in the prompt",
        lambda record, rights: _conversation(record) in rights.student_talks,
    ),
    Rule(
        "licence",
        "the teacher's licence does not allow training on its answers",
        lambda _, rights: not rights.teacher.distillable,
    ),
    Rule("failed", "the request did not succeed", lambda record, _: record.get("status") != 200),
    Rule("no_text", "the text was not kept", lambda record, _: not record.get("messages")),
    Rule(
        "unfinished",
        "the answer was cut short or ended otherwise than by itself",
        lambda record, _: record.get("finish_reason") != "stop",
    ),
    Rule("other_shape", "tools, reasoning or several choices, which students don't learn yet", _of_another_shape),
    Rule("empty", "the answer is empty", _empty),
    Rule("incomplete", "the record lacks a part of the request that shapes the answer", _incomplete),
)
WORDS = {rule.reason: rule.words for rule in RULES} | {
    "over_cap": "its account has more rows than one may give",
    "duplicate": "the prompt repeats an earlier one",
    "contaminated": "it is nearly one of the evaluation rows",
    "held_out": "its account is one that only the evaluation is about",
    "straddles": "its conversation, or one nearly the same, goes on into a later split",
}
MOST_PER_ACCOUNT = 10_000


def task_like(lake: Lake, settings: Settings, name: str, request_id: str) -> Task:
    """Make a task of the request's endpoint and skeleton; `NotFound` or `InvalidValue` with the remedy."""
    record = lake.record(request_id)
    if record is None:
        raise NotFound(
            f"the lake has no request {request_id!r}: take an id that `spiritsafe traffic tail` shows (a new one needs "
            "about two seconds to arrive)"
        )
    skeleton = (record.get("fingerprint") or {}).get("skeleton")
    if record["endpoint"] != ENDPOINT or not skeleton:
        raise InvalidValue(f"{request_id} is no {ENDPOINT} request with its text: only those can be learnt from")
    teacher = settings.model(record["model"])
    if teacher is None or teacher.role != "teacher":
        raise InvalidValue(
            f"{request_id} was answered by {record['model']!r}, no teacher of the settings: take another"
        )
    if not teacher.distillable:
        raise InvalidValue(
            f"the answers of {teacher.name!r} may not train a student: set `distillable = true` for the model where "
            f"its licence ({teacher.licence or 'none is given'}) allows it"
        )
    return Task(name, ENDPOINT, skeleton, teacher, request_id)


def rights_now(connection: sa.Connection, teacher: ModelSettings) -> Rights:
    """Read the rights as they stand in this transaction."""
    barred = frozenset(alerts.barred_accounts(connection))
    return Rights(consents.in_force(connection), barred, teacher, opt_outs.every(connection))


def select(
    lake: Lake,
    task: Task,
    rights: Rights,
    since: datetime | None = None,
    slices: Sequence[str] = (),
    most_per_account: int = MOST_PER_ACCOUNT,
) -> Selection:
    """Return the task's usable rows, scrubbed, without repeated prompts, at most so many of an account."""
    version = lake.version()
    wanted = (pc.field("endpoint") == task.endpoint) & (pc.field("skeleton") == task.skeleton)
    # Of any time: what a student said long ago is in the prompts of the same conversation today.
    students = lake.read(columns=["id", "conversation"], filter=wanted & (pc.field("model_role") == "student"))
    talks = frozenset(_conversation(from_row(row)) for row in students.to_pylist())
    if since is not None:
        wanted = wanted & (pc.field("time") >= millisecond(since))
    records = [from_row(row) for row in lake.read(columns=COLUMNS, filter=wanted).to_pylist()]
    kept, left_out = sift(records, replace(rights, student_talks=talks), slices)
    scrubbed: Counter[str] = Counter()
    rows, repeated = keep_first([scrub(row, scrubbed) for row in kept])
    left_out["duplicate"] = repeated
    rows, left_out["over_cap"] = capped(rows, most_per_account)
    counts = {reason: count for reason, count in left_out.items() if count}
    return Selection(tuple(rows), counts, dict(scrubbed), version)


def sift(records: Iterable[Record], rights: Rights, slices: Sequence[str] = ()) -> tuple[list[Row], Counter[str]]:
    """Return the rows that nothing speaks against, oldest first, and how many each reason kept out."""
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for record in records:
        rule = next((rule for rule in RULES if rule.applies(record, rights)), None)
        if rule is None:
            rows.append(to_row(record, slices, _reason(record, rights)))
        else:
            left_out[rule.reason] += 1
    return sorted(rows, key=lambda row: (row.time, row.id)), left_out


def capped(rows: Sequence[Row], most: int) -> tuple[list[Row], int]:
    """Return at most so many rows of each account, and how many were left out.

    Which of an account's stay is drawn by the hash of their ids: neither its newest nor its oldest count for more.
    """
    drawn = sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())
    counts: Counter[str] = Counter()
    kept = set()
    for row in drawn:
        counts[row.account] += 1
        if counts[row.account] <= most:
            kept.add(row.id)
    return [row for row in rows if row.id in kept], len(rows) - len(kept)


def _reason(record: Record, rights: Rights) -> str:
    """Say by what right a row that no rule speaks against may train."""
    consent = rights.consents[record["account"]]
    licence = rights.teacher.licence or "licence not stated"
    return (
        f"consent {consent.id} to {consent.purpose}, version {consent.version}, of {consent.granted:%Y-%m-%d}; "
        f"store: true; answered by {rights.teacher.name} ({licence}); {record['origin']}"
    )


def _user(record: Record) -> tuple[str, str]:
    return record["account"], str(record.get("user") or "")


def _conversation(record: Record) -> str:
    return str((record.get("fingerprint") or {}).get("conversation") or record["id"])


def to_row(record: Record, slices: Sequence[str] = (), reason: str = "") -> Row:
    """Return a record as a row; without a known conversation it is one of its own."""
    conversation = _conversation(record)
    time = from_rfc3339(record["time"])
    answer = record["response"]["content"]
    members = slices_of(record.get("metadata"), slices)
    return Row(record["id"], time, record["account"], conversation, request_of(record), answer, members, reason)


def request_of(record: Record) -> dict[str, Any]:
    """Rebuild the chat.completions body: the messages and every recorded field that shapes the answer."""
    extra = record.get("extra") or {}
    recorded = {**extra, **(extra.get("parameters") or {}), **(record.get("parameters") or {})}
    for name, value in extra.items():
        recorded.setdefault(name.removeprefix("parameters."), value)
    body = {name: value for name, value in recorded.items() if name in REPEATED or name.startswith("guided_")}
    return {"messages": record["messages"], **{name: value for name, value in body.items() if value is not None}}


def scrub(row: Row, found: Counter[str]) -> Row:
    """Return the row with its placeholders, alike in request and answer, adding to the counts by kind."""
    scrubber = Scrubber()
    clean = replace(row, request=scrubber.request(row.request), answer=scrubber.text(row.answer))
    found.update(scrubber.found)
    return clean
