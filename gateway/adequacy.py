"""Does a request belong to a student's task? Its skeleton must match, its text be near what the student learnt."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.content import text_of
from gateway.ledger.distance import Distance
from gateway.ledger.errors import LedgerError
from gateway.ledger.registry import Student
from gateway.protocol.requests import InferenceRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adequacy:
    """One student's rule: endpoint, skeleton, and the fitted distance with its threshold."""

    endpoint: str
    skeleton: str
    distance: Distance

    def is_task(self, request: InferenceRequest) -> bool:
        """Does the request have the task's endpoint, system prompt, tools and output format?"""
        return request.endpoint == self.endpoint and request.skeleton == self.skeleton

    def distance_of(self, request: InferenceRequest) -> float:
        """Return the distance of the request's last user text, lower is nearer (< 1 ms)."""
        return self.distance.distance(text_of(request.subject))

    def is_near(self, distance: float) -> bool:
        """Is the distance within what held 95 % of held-out rows?"""
        return distance <= self.distance.threshold


class AdequacyFiles:
    """Loads students' distances, each file once."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, int], Distance] = {}

    def of(self, student: Student) -> Adequacy | None:
        """Return the student's rule, or None when it has no readable file: then it answers nothing of `auto`."""
        if student.adequacy is None:
            return None
        try:
            path = Path(student.adequacy)
            name = (student.adequacy, path.stat().st_mtime_ns)
            if name not in self._loaded:
                self._loaded[name] = Distance.load(path)
        except (OSError, ValueError, KeyError, LedgerError) as error:
            logger.error("student %s can't be routed to, its distance is unreadable: %s", student.reference, error)
            return None
        return Adequacy(student.endpoint, student.skeleton, self._loaded[name])
