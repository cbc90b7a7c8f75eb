"""The bodies of the admin API. What a schema does not name, such as the hash of a key, never leaves."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from gateway.command import DURATION, Duration
from gateway.ledger.alerts import Finding
from gateway.ledger.enforcement import DEFAULT_DURATION, Action
from gateway.ledger.identifiers import to_rfc3339
from gateway.ledger.keys import GRACE

Time = Annotated[datetime, PlainSerializer(to_rfc3339, return_type=str)]


def _parse(text: object) -> timedelta:
    if not isinstance(text, str) or not re.fullmatch(DURATION, text):
        raise ValueError(f"{text!r} is no length of time: write for example 30m, 12h or 7d")
    return Duration().convert(text, None, None)


Length = Annotated[
    timedelta, BeforeValidator(_parse), WithJsonSchema({"type": "string", "pattern": f"^{DURATION}$", "example": "7d"})
]


class Body(BaseModel):
    """A request's body: a field that is not known is an error, so that a misspelt one is not ignored."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """An answer's body, read from a row of the ledger by the names of its fields."""

    model_config = ConfigDict(from_attributes=True)


class ProblemDetail(BaseModel):
    """What went wrong and how to mend it."""

    message: str
    type: str


class Problem(BaseModel):
    """Every error's body."""

    error: ProblemDetail


class NewAccount(Body):
    """An account to create; `consent` is its agreement that its rows may train, `operator` lets it call candidates."""

    name: str
    consent: bool = False
    operator: bool = False
    tier: str = "default"


class AccountRow(Shown):
    """An account, whether its consent to training is in force, and the measure in force against it."""

    name: str
    created: Time
    tier: str
    operator: bool
    payment: str | None
    signup_network: str | None
    divert_named: bool
    consent: bool = False
    enforcement: EnforcementRow | None = None


class KeyScope(Shown):
    """What a key may do: models, endpoints and tokens of output (null: no bound), and parameters beyond OpenAI's."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    maximum_output: int | None = None
    extensions: bool = False


class NewKey(Body):
    """A key to create for an account; it ends at `expires`, or never."""

    account: str
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    scope: KeyScope = KeyScope()
    expires: AwareDatetime | None = None


class Rotation(Body):
    """For how long the old key is accepted beside its successor."""

    grace: Length = GRACE


class KeyEnd(Body):
    """When a key is to end: in a length of time, or at a moment."""

    within: Annotated[Length | None, Field(alias="in")] = None
    at: AwareDatetime | None = None


class KeyRow(Shown):
    """A key without the key; `hint` is its last four characters, `family` the first key of its line of rotations."""

    id: str
    account: str
    hint: str
    created: Time
    revoked: Time | None
    requests_per_minute: int | None
    expires: Time | None
    scope: KeyScope
    family: str


class CreatedKey(BaseModel):
    """A new key. `key` is shown here and never again."""

    id: str
    account: str
    key: str
    expires: Time | None


class LimitChange(Body):
    """The limits to change: a number sets one, null ends one. Money is nano-dollars."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    usd_day: int | None = None
    usd_month: int | None = None
    max_output: int | None = None
    weight: int | None = None
    lane: Literal["interactive", "batch"] | None = None


class LimitRow(Shown):
    """The limits of an account, a key or a model, null where there is none. Money is nano-dollars."""

    subject: str
    name: str
    rpm: int | None
    tpm: int | None
    parallel: int | None
    usd_day: int | None
    usd_month: int | None
    max_output: int | None
    weight: int | None
    lane: str | None
    updated: Time


class AlertRow(Shown):
    """An alert with its reasons and its evidence."""

    id: str
    account: str
    severity: str
    score: float
    state: str
    opened: Time
    updated: Time
    reasons: list[dict[str, Any]]
    evidence: dict[str, Any]
    decided: Time | None
    decision: str | None
    operator: str | None
    note: str | None
    assignee: str | None
    finding: str | None
    batch: str | None


class NewDecision(Body):
    """A person's decision about an alert, and what it turned out to be.

    `for` is how long a step holds, `tokens_per_day` what `cap` leaves.
    """

    decision: Literal["dismiss"] | Action
    note: str
    finding: Finding | None = None
    duration: Annotated[Length, Field(alias="for")] = DEFAULT_DURATION
    tokens_per_day: int | None = None


class Reason(Body):
    """Why, in a sentence, or what an account says against an alert; an audit will read it."""

    note: Annotated[str, Field(min_length=1)]


class Target(Body):
    """One account, several, or all of a linked set (`set`: its id, or an alert's); and how a step is to be taken.

    `for` is how long it holds, `after` and `spread` when it begins (default: at once), `tokens_per_day` what `cap`
    leaves of the teacher's output tokens.
    """

    account: str | None = None
    accounts: list[str] = []
    linked: Annotated[str | None, Field(alias="set")] = None
    duration: Annotated[Length, Field(alias="for")] = DEFAULT_DURATION
    tokens_per_day: int | None = None
    after: Length | None = None
    spread: Length = timedelta()


class PlannedStep(Target):
    """A step to try on the last week's requests."""

    action: Action


class NewMeasure(Target):
    """A step to take, or the end of what is in force (`clear`)."""

    action: Action | Literal["clear"]
    note: Annotated[str, Field(min_length=1)]


class EstimateFigures(BaseModel):
    """What a step would have done to a week's answered requests; tokens are the teacher's, money nano-dollars.

    `share` is the stopped part of the teacher's tokens. `others_…` are of accounts that no alert suspects.
    """

    requests: int
    teacher_requests: int
    teacher_tokens: int
    refused: int
    changed: int
    stopped_requests: int
    stopped_tokens: int
    stopped_cost: int
    others_refused: int
    others_changed: int
    share: float | None
    sentence: str


class EstimateShown(EstimateFigures):
    """A dry run: all together, and by account."""

    action: str
    accounts: dict[str, EstimateFigures]


class EnforcementRow(Shown):
    """A measure: in force from `begins` (null: `created`) until `until`, unless `cleared`.

    Until it begins `meanwhile` is. `decision` is shared by all accounts of one decision; `policy` is what took it.
    """

    id: str
    account: str
    action: str
    created: Time
    until: Time
    operator: str
    note: str
    alert: str | None
    cleared: Time | None
    decision: Annotated[str, Field(validation_alias="decision_id")]
    begins: Time | None
    meanwhile: str | None
    tokens_per_day: int | None
    policy: str | None


class MeasureTaken(BaseModel):
    """What was done: the measures now in force (`measure`: the first of them), or how many were ended."""

    measure: EnforcementRow | None
    measures: list[EnforcementRow] = []
    cleared: int


class MeasuresUndone(BaseModel):
    """What an undone decision ended, and what it had replaced and is in force again."""

    ended: list[EnforcementRow]
    restored: list[EnforcementRow]


class NewPolicy(Body):
    """A policy to write down, switched off: which alerts call for `watch` or `strip`; `within` null: at once."""

    name: str
    action: Action
    note: Annotated[str, Field(min_length=1)]
    severity: Literal["low", "medium", "high"] = "high"
    score: float | None = None
    leaked_tokens: int | None = None
    duration: Annotated[Length, Field(alias="for")] = DEFAULT_DURATION
    within: Length | None = timedelta(hours=6)


class PolicyRow(Shown):
    """A policy and whether it is switched on; lengths in seconds."""

    name: str
    action: str
    severity: str
    score: float | None
    leaked_tokens: int | None
    duration_s: int
    spread_s: int
    enabled: bool
    created: Time
    created_by: str
    switched: Time | None
    switched_by: str | None
    note: str


class PolicyHit(BaseModel):
    """An alert that a policy would have met, what people made of it, and what the step would have done since."""

    account: str
    accounts: int
    alert: str
    opened: Time
    severity: str
    score: float
    decided: str | None
    begins: Time
    requests: int
    changed: int
    teacher_tokens: int
    stopped_tokens: int


class NewUse(Body):
    """A use that an account declared, to be granted: at most so many requests a day until a moment."""

    account: str
    use: str
    cap_per_day: Annotated[int, Field(ge=1)]
    until: AwareDatetime


class UseRow(Shown):
    """A declared use, and its account's requests: today, on the busiest of the last 7 days, days over the cap."""

    id: str
    account: str
    use: str
    cap_per_day: int | None
    until: Time | None
    created: Time
    granted_by: str | None
    revoked: Time | None
    today: int = 0
    peak: int = 0
    over: int | None = None


class ApprovalRow(Shown):
    """A person's yes to a snapshot's hash."""

    snapshot: str
    approver: str
    requested_by: str
    time: Time
    note: str


class SnapshotRow(Shown):
    """A frozen snapshot and its approval, null while it waits."""

    hash: str
    task: str
    endpoint: str
    skeleton: str
    created: Time
    requested_by: str
    report: dict[str, Any]
    approval: ApprovalRow | None = None


class Note(Body):
    """Why, in a sentence; it is what an audit will read."""

    note: str = ""


class ModelRow(Shown):
    """A base model of the settings file (state `declared`) or a student, null where only students have a value.

    Prices are nano-dollars per token. `url` is where it is served, null while it is not.
    """

    reference: str
    name: str
    role: Literal["teacher", "student"] = "student"
    state: str
    licence: str
    context_length: int
    input_price: int | None
    output_price: int | None
    url: str | None
    distillable: bool = False
    version: int | None = None
    task: str | None = None
    endpoint: str | None = None
    teacher: str | None = None
    snapshot: str | None = None
    created: Time | None = None
    parameters: int | None = None
    training: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    price_basis: str | None = None
    promoted_by: str | None = None


class BackendRow(Shown):
    """A backend of one model; null is what no worker has told of. `running` and `waiting` are its own counts."""

    model: str
    url: str
    weight: float
    tier: int
    drained: bool
    drained_by: str | None
    drained_since: Time | None
    state: str | None
    in_flight: int | None
    running: int | None
    waiting: int | None
    kv_cache: float | None


class DrainChange(Body):
    """A backend to take out, or to put back (`undo`)."""

    url: str
    undo: bool = False
    note: str = ""


class DrainState(BaseModel):
    """Whether a backend is out now."""

    url: str
    drained: bool


class UsageRow(BaseModel):
    """An account's use of a model. Money is nano-dollars; `counterfactual_cost` is what the teacher would have cost."""

    account: str
    model: str
    model_role: str | None
    origin: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost: int
    counterfactual_cost: int


class AuditEntry(Shown):
    """Who did what to whom, when, what it was before and after, and why; `hash` chains it to the row before."""

    number: int
    id: str
    time: Time
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    hash: str


class ProcessRow(Shown):
    """One process of the house; `error` says why it is not ready."""

    name: str
    kind: str
    state: str
    since: Time
    pid: int | None
    restarts: int
    url: str | None
    log: str
    error: str | None


class Health(BaseModel):
    """The house's state: `running` is false when no `spiritsafe up` keeps the processes listed."""

    running: bool
    pid: int | None
    time: Time | None
    open_alerts: int
    revision: int
    processes: list[ProcessRow]


AccountRow.model_rebuild()
