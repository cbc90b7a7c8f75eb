"""Which model answers: a name pins it, `auto` means the cheapest adequate candidate. Every decision has its reason."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from gateway.adequacy import Adequacy, AdequacyFiles
from gateway.capabilities import Capabilities, Needs, capabilities_of, needs_of
from gateway.errors import ModelNotFound
from gateway.fleet.pools import Fleet, Pool
from gateway.ledger.registry import Student
from gateway.ledger.rollouts import share_of
from gateway.protocol.exchange import Prices, Route
from gateway.protocol.preferences import Preferences
from gateway.protocol.requests import InferenceRequest
from gateway.settings import ModelSettings, Settings

AUTO = "auto"
Models = tuple[str, ...] | None  # what a key's scope names; None: all

Reason = Literal[
    "pinned",
    "adequate",
    "no_student",
    "not_task",
    "unfit",
    "too_far",
    "unhealthy",
    "policy",
    "stakes",
    "quality_floor",
    "protected",
    "rollout",
]
# How near a student came to answering; the nearest one's reason is the reason for the teacher.
_NEARNESS: tuple[Reason, ...] = (
    "no_student",
    "not_task",
    "unfit",
    "quality_floor",
    "protected",
    "too_far",
    "unhealthy",
    "rollout",
)


@dataclass(frozen=True)
class Candidate:
    """A model that may answer. `teacher_prices`: what its teacher costs; `lower_bound`: the gate's, on correctness.

    `protected`: the pairs of metadata whose requests stay with the teacher, because the gate has not proven them.
    `share`: of what it is adequate for, how much it answers; less than all while it is being rolled out.
    """

    name: str
    role: Literal["teacher", "student"]
    pool: Pool
    prices: Prices
    teacher_prices: Prices
    capabilities: Capabilities
    student: Student | None = None
    adequacy: Adequacy | None = None
    lower_bound: float | None = None
    protected: frozenset[tuple[str, str]] = frozenset()
    share: float = 1.0

    @property
    def price(self) -> int:
        """What candidates are compared by, in nano-dollars: one input and one output token."""
        return sum(self.prices)

    @cached_property
    def pinned(self) -> Route:
        """The route of a request that names this model."""
        return RouteDecision(self, "pinned", self.student.task if self.student else None).route


@dataclass(slots=True)
class RouteRequest:
    """What a router looks at. `diverted`: policy sends this account's `auto` traffic to a student."""

    request: InferenceRequest
    preferences: Preferences = field(default_factory=Preferences)
    diverted: bool = False


@dataclass(slots=True)
class RouteDecision:
    """Who answers and why; `task` and `adequacy` (the distance) where they were looked at and the text was near."""

    candidate: Candidate
    reason: Reason
    task: str | None = None
    adequacy: float | None = None

    @property
    def route(self) -> Route:
        """The decision in the terms of the record."""
        chosen = self.candidate
        prices = chosen.prices, chosen.teacher_prices
        return Route(chosen.name, chosen.role, self.reason, *prices, self.task, self.adequacy)


class Router(Protocol):
    """The seam: one method. `candidates` are the teacher and every student that is promoted or being rolled out."""

    def choose(self, request: RouteRequest, candidates: Sequence[Candidate]) -> RouteDecision:
        """Choose the candidate that answers an `auto` request; never fails while there is a teacher."""
        ...


class CheapestRouter:
    """The cheapest candidate that is adequate; the teacher always is. `draw`: in [0, 1), whom a rollout concerns."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw

    def choose(self, request: RouteRequest, candidates: Sequence[Candidate]) -> RouteDecision:
        """Take the cheapest student that is adequate and up, else the teacher with the nearest one's reason."""
        teachers = [candidate for candidate in candidates if candidate.role == "teacher"]
        if len(candidates) == 1:
            return RouteDecision(teachers[0], "no_student")
        needs = needs_of(request.request)
        # Where no teacher can take it the first one says so itself, better than we could.
        teacher = next((c for c in teachers if c.capabilities.can_take(needs)), teachers[0])
        students = [candidate for candidate in candidates if candidate.role == "student"]
        if request.diverted and students:
            return self._diverted(request, students, teacher, needs)
        if not students:
            return RouteDecision(teacher, "no_student" if teacher is teachers[0] else "unfit")
        if request.preferences.high_stakes:
            return RouteDecision(teacher, "stakes")
        judged = [_judge(request, candidate, needs) for candidate in students]
        adequate = self._concerned([decision for decision in judged if decision.reason == "adequate"])
        if adequate:
            best = min(adequate, key=lambda decision: decision.candidate.price)
            cheaper = best.candidate.price <= teacher.price
            return best if cheaper else RouteDecision(teacher, "adequate", best.task, best.adequacy)
        nearest = max(judged, key=lambda decision: _NEARNESS.index(decision.reason))
        return RouteDecision(teacher, nearest.reason, nearest.task, nearest.adequacy)

    def _concerned(self, adequate: list[RouteDecision]) -> list[RouteDecision]:
        """Leave those that are being rolled out only their share; what is drawn for one of them, nobody else gets."""
        staged = [decision for decision in adequate if decision.candidate.share < 1]
        if not staged:
            return adequate
        drawn = self._draw()
        chosen = [decision for decision in staged if drawn < decision.candidate.share]
        for decision in staged:
            decision.reason = "adequate" if decision in chosen else "rollout"
        return chosen or [decision for decision in adequate if decision not in staged]

    def _diverted(
        self, request: RouteRequest, students: Sequence[Candidate], teacher: Candidate, needs: Needs
    ) -> RouteDecision:
        # Diversion overrides adequacy, stakes and floor; a student of the task is still the better one to get.
        ready = [candidate for candidate in students if candidate.pool.ready]
        if not ready:
            return RouteDecision(teacher, "unhealthy")
        # What no student can take one of them refuses: a prompt that is too long must be no way back to the teacher.
        ready = [candidate for candidate in ready if candidate.capabilities.can_take(needs)] or ready
        of_task = [
            candidate for candidate in ready if candidate.adequacy and candidate.adequacy.is_task(request.request)
        ]
        chosen = min(of_task or ready, key=lambda candidate: candidate.price)
        task = chosen.student.task if of_task and chosen.student else None
        return RouteDecision(chosen, "policy", task)


def _judge(request: RouteRequest, candidate: Candidate, needs: Needs) -> RouteDecision:
    """Return a decision whose reason is `adequate`, or why this student does not answer."""
    rule, floor = candidate.adequacy, request.preferences.quality_floor
    if rule is None:
        return RouteDecision(candidate, "unhealthy")
    if not rule.is_task(request.request):
        return RouteDecision(candidate, "not_task")
    if not candidate.capabilities.can_take(needs):
        return RouteDecision(candidate, "unfit")
    if floor is not None and (candidate.lower_bound is None or candidate.lower_bound < floor):
        return RouteDecision(candidate, "quality_floor")
    if candidate.protected and _is_protected(request.request, candidate.protected):
        return RouteDecision(candidate, "protected")
    distance = rule.distance_of(request.request)
    if not rule.is_near(distance):
        return RouteDecision(candidate, "too_far", None, distance)
    task = candidate.student.task if candidate.student else None
    return RouteDecision(candidate, "adequate" if candidate.pool.ready else "unhealthy", task, distance)


def _is_protected(request: InferenceRequest, protected: frozenset[tuple[str, str]]) -> bool:
    metadata = request.subject.get("metadata")
    return isinstance(metadata, dict) and not protected.isdisjoint(metadata.items())


@dataclass(frozen=True)
class Catalogue:
    """All models by name, as they are in one control state. `students` are those that are served, newest first."""

    base: dict[str, Candidate]
    students: tuple[Candidate, ...]
    teacher: Candidate

    def automatic(self, models: Models = None, *, diverted: bool = False) -> list[Candidate]:
        """Return the candidates of `auto` among the key's `models`: students, the teacher, and other teachers.

        Students are those that are promoted or have a share of a rollout. `ModelNotFound` where the teacher is not
        among them, because `auto` promises an answer and falls back to it. A diversion reaches every promoted student:
        a scope is no way around it.
        """
        if not self.has_automatic(models):
            raise ModelNotFound(AUTO)
        # A rollout has its share of what asked for a model, and nothing of what policy diverts.
        students = (
            self._promoted(None) if diverted else [c for c in self.students if c.share > 0 and in_scope(c, models)]
        )
        others = [
            c for c in self.base.values() if c.role == "teacher" and c is not self.teacher and in_scope(c, models)
        ]
        return [*students, self.teacher, *others]

    def in_place_of(self, candidate: Candidate) -> list[Candidate]:
        """Return the candidates of a request that named a teacher and is diverted: every student, and that teacher."""
        return [*self._promoted(None), candidate]

    def has_automatic(self, models: Models = None) -> bool:
        """May a key of these models ask for `auto`?"""
        return in_scope(self.teacher, models)

    def named(self, name: str, operator: bool, models: Models = None) -> Candidate:
        """Return the model that a caller pinned; `ModelNotFound` for an unknown one and for one that is not theirs.

        `NAME` is a student's promoted version, else its newest; only operators' accounts may call what is not promoted.
        """
        if name in self.base and in_scope(self.base[name], models):
            return self.base[name]
        matching = [candidate for candidate in self._students(operator, models) if name in _names(candidate)]
        promoted = [candidate for candidate in matching if _state(candidate) == "promoted"]
        for candidate in promoted or matching:
            return candidate
        raise ModelNotFound(name)

    def visible(self, operator: bool, models: Models = None) -> list[Candidate]:
        """Return the models that a caller may name."""
        base = [candidate for candidate in self.base.values() if in_scope(candidate, models)]
        return [*base, *self._students(operator, models)]

    def _promoted(self, models: Models) -> list[Candidate]:
        return [c for c in self.students if _state(c) == "promoted" and in_scope(c, models)]

    def _students(self, operator: bool, models: Models) -> list[Candidate]:
        return [c for c in self.students if (operator or _state(c) == "promoted") and in_scope(c, models)]

    def pools(self) -> list[tuple[str, Pool]]:
        """Return every model's pool of backends."""
        return [(candidate.name, candidate.pool) for candidate in (*self.base.values(), *self.students)]

    def prices(self) -> list[tuple[str, Prices, Prices]]:
        """Return what every model costs, and what its teacher does."""
        return [(model.name, model.prices, model.teacher_prices) for model in (*self.base.values(), *self.students)]


def build_catalogue(settings: Settings, students: Iterable[Student], fleet: Fleet, files: AdequacyFiles) -> Catalogue:
    """Put the models of the settings and of the registry together; students' distances are read from disk here."""
    base = {model.name: _base_candidate(model, settings, fleet) for model in settings.models}
    newest_first = sorted(students, key=lambda student: (student.name, -student.version))
    served = tuple(_student_candidate(student, settings, fleet, files) for student in newest_first)
    fleet.keep(candidate.pool for candidate in (*base.values(), *served))
    return Catalogue(base, served, base[settings.teacher.name])


def _base_candidate(model: ModelSettings, settings: Settings, fleet: Fleet) -> Candidate:
    reference = model if model.role == "teacher" else settings.teacher
    pool = fleet.provided_pool(model) if model.provider else fleet.pool(model.name, model.servers, model.balance)
    prices = model.nano_prices, reference.nano_prices
    return Candidate(model.name, model.role, pool, *prices, capabilities_of(model))


def _student_candidate(student: Student, settings: Settings, fleet: Fleet, files: AdequacyFiles) -> Candidate:
    teacher = (settings.model(student.teacher) or settings.teacher).nano_prices
    # Without prices of its own (the gate sets them) a student is charged as its teacher is.
    prices = (
        teacher[0] if student.input_price is None else student.input_price,
        teacher[1] if student.output_price is None else student.output_price,
    )
    pool = fleet.pool(student.reference, [student.url] if student.url else [])
    found = (student.gate or {}).get("lower_bound")
    bound = found if isinstance(found, (int, float)) else None
    share = share_of(student)
    rule = files.of(student) if share > 0 else None
    # Its task's tools and format are part of the skeleton, so they are what it has learnt.
    able = Capabilities(student.context_length)
    return Candidate(
        student.reference, "student", pool, prices, teacher, able, student, rule, bound, _protected(student), share
    )


def _protected(student: Student) -> frozenset[tuple[str, str]]:
    """Return the slices, `KEY=VALUE` each, that the gate left with the teacher."""
    slices = (student.gate or {}).get("slices", ())
    pairs = (entry["slice"].partition("=") for entry in slices if entry["stays_with_teacher"])
    return frozenset((key, value) for key, _, value in pairs)


def in_scope(candidate: Candidate, models: Models) -> bool:
    """Is the candidate, by its own name or as a version of a student, among the models of a key?"""
    return models is None or any(name in models for name in _names(candidate))


def _state(candidate: Candidate) -> str | None:
    return candidate.student.state if candidate.student else None


def _names(candidate: Candidate) -> tuple[str, ...]:
    return (candidate.name, candidate.student.name) if candidate.student else (candidate.name,)
