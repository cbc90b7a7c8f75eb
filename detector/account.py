"""One account's state: its own past, its windows and its evidence, brought forward request by request in event time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from detector.evidence import NOTHING, Context, Evidence, weigh
from detector.memory import Conversations, OwnPast
from detector.observations import TINY_ANSWER, Observation
from detector.sequential import ALLOWANCE, Cusum
from detector.windows import DAY, HOUR_S, MONTH, Sums, Windows

MOST_OVERHEAD = 64.0  # input tokens; more than a chat template and a short system prompt is content
MOST_USERS = 50_000
EXAMPLES = 120


@dataclass(slots=True)
class Totals:
    """Counts since the account's first record in the lake; `cost` in nano-dollars."""

    requests: int = 0
    live_requests: int = 0
    teacher_tokens: int = 0
    leaked_tokens: float = 0.0
    cost: int = 0


class Mirror:
    """How far answers mirror inputs: the squared correlation of the logarithms of lengths, of about 50 requests."""

    FADE = 0.98
    ENOUGH = 20.0
    CHANCE = 0.2  # a change of use correlates lengths by so much without any mirroring

    def __init__(self) -> None:
        self._sums = [0.0] * 6  # n, x, y, xx, yy, xy

    def add(self, length_in: float, length_out: float) -> None:
        """Add one request's lengths in tokens."""
        x, y = math.log1p(max(0.0, length_in)), math.log1p(length_out)
        self._sums = [
            old * self.FADE + new for old, new in zip(self._sums, (1.0, x, y, x * x, y * y, x * y), strict=True)
        ]

    @property
    def share(self) -> float:
        """0 to 1; 0 while there are few requests, or where longer inputs bring shorter answers."""
        n, x, y, xx, yy, xy = self._sums
        if n < self.ENOUGH:
            return 0.0
        covariance, spread = xy - x * y / n, (xx - x * x / n) * (yy - y * y / n)
        if covariance <= 0 or spread <= 1e-9:
            return 0.0
        return max(0.0, (min(1.0, covariance * covariance / spread) - self.CHANCE) / (1 - self.CHANCE))


class Purity:
    """Which share of about the last 25 answers was both unseen and outside any conversation."""

    FADE = 0.96

    def __init__(self) -> None:
        self.unseen = self.single = 0.5  # nothing is known yet

    def add(self, evidence: Evidence) -> None:
        """Add one answered request."""
        self.single += (1 - self.FADE) * (evidence.single - self.single)
        if evidence.unseen is not None:
            self.unseen += (1 - self.FADE) * (evidence.unseen - self.unseen)

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.unseen * self.single


class Account:
    """Everything the detector keeps of one account."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cell = ""
        self.first_seen = 0.0
        self.last_seen = 0.0
        self.totals = Totals()
        self.windows = Windows()
        self.cusum = Cusum()
        self.examples: deque[str] = deque(maxlen=EXAMPLES)
        self._past, self._conversations, self._mirror, self._purity = OwnPast(), Conversations(), Mirror(), Purity()
        self._users: set[str] = set()
        self._least_input = math.inf
        self._day = -1

    def observe(self, seen: Observation) -> Evidence:
        """Take one request into the state and return what it says."""
        if self.totals.requests == 0:
            self.first_seen = seen.time
        self.last_seen = max(self.last_seen, seen.time)
        self._begin_day(seen.time)
        context = self._context(seen)
        evidence = weigh(seen, context)
        self._count(seen, evidence)
        self.windows.add(seen.time, _values(seen, context, evidence))
        if evidence is not NOTHING:
            self.cell = seen.cell
            self._purity.add(evidence)
            self.cusum.add(seen.time, evidence.families)
            if max(evidence.families) >= ALLOWANCE:
                self.examples.append(seen.id)
        return evidence

    def requests_in_memory(self, time: float) -> int:
        """Return how many requests of the last 28 days the windows hold."""
        return int(self.windows.total(time, MONTH)[0])

    def representative(self, count: int = 3) -> list[str]:
        """Return the ids of requests that show what the evidence rests on, spread over the recent ones."""
        chosen = list(self.examples)
        if len(chosen) <= count:
            return chosen
        return [chosen[round(i * (len(chosen) - 1) / (count - 1))] for i in range(count)]

    def _begin_day(self, time: float) -> None:
        day = int(time // (DAY * HOUR_S))
        if day > self._day:
            self._day = day
            self.cusum.set_past(self.windows.before_day(time))

    def _context(self, seen: Observation) -> Context:
        likeness = self._past.meet(seen)
        continues = self._conversations.continues(seen.conversation, seen.turns, likeness.repeated)
        returning = seen.user is not None and seen.user in self._users
        if seen.user is not None and len(self._users) < MOST_USERS:
            self._users.add(seen.user)
        age = seen.time - self.first_seen
        mirrored = self._mirror_of(seen)
        return Context(likeness, continues, returning, self._overhead(seen), mirrored, age, self._purity.share)

    def _overhead(self, seen: Observation) -> float:
        if math.isnan(seen.input):
            return 0.0
        # The least input of late; it drifts upwards, so that one odd request does not rule for ever.
        self._least_input = min(seen.input, self._least_input * 1.01)
        return min(MOST_OVERHEAD, 0.9 * self._least_input)

    def _mirror_of(self, seen: Observation) -> float:
        share = self._mirror.share
        if seen.teacher and not math.isnan(seen.input) and not math.isnan(seen.output):
            self._mirror.add(seen.input, seen.output)
        return share

    def _count(self, seen: Observation, evidence: Evidence) -> None:
        totals = self.totals
        totals.requests += 1
        totals.live_requests += seen.live
        if seen.teacher:
            totals.teacher_tokens += 0 if math.isnan(seen.output) else int(seen.output)
            totals.leaked_tokens += evidence.leaked
            totals.cost += seen.cost


def _values(seen: Observation, context: Context, evidence: Evidence) -> Sums:
    answered = evidence is not NOTHING
    application = seen.application
    counts = (
        1.0,
        float(answered),
        float(seen.live),
        0.0 if math.isnan(seen.input) else seen.input,
        seen.output if answered else 0.0,
        evidence.leaked,
        float(seen.cost),
        evidence.unseen or 0.0,
        float(evidence.unseen is not None),
        evidence.spread or 0.0,
        float(evidence.spread is not None),
        evidence.single,
        (application or 0.0) * answered,
        float(application is not None and answered),
        float(answered and seen.output <= TINY_ANSWER),
        float(answered and seen.top_logprobs > 0),
        float(answered and seen.choices > 1),
        float(answered and context.likeness.repeated),
        float(answered and seen.elicits),
        float(answered and seen.grades),
        float(answered and context.returning_user),
        float(answered and seen.has_text),
    )
    return np.array(counts + evidence.families)
