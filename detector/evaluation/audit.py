"""Does the simulator give the label away? Probes that must not be able to tell campaigns from ordinary accounts.

Each probe sees one view of an account that says nothing about what is collected: its client software, its hours, its
place in the file, one single prompt, how often things recur. A boosted classifier is trained on it by grouped
cross-validation (no campaign and no benign group on both sides); its AUC must stay at or below 0.60. Views that a
strategy is defined by (parameters of A6 and A7, volume) are reported beside these, each with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from detector.evaluation.figures import Figure, Floats, Resampling, roc_auc
from detector.evaluation.planning import Plan, hash_of
from detector.evaluation.simulation import START_S, History, Record
from gateway.ledger.content import text_of
from gateway.ledger.fingerprint import embedding
from gateway.ledger.identifiers import from_rfc3339

MOST_AUC = 0.60
FOLDS = 5
HASHED = 16
LEAST_REQUESTS = 30  # accounts below are not judged, so they are not probed either


@dataclass(frozen=True)
class Probe:
    """A view and whom it is put to. `exception`: why it may tell more than `MOST_AUC`; None where it must not.

    `without` are types that are left out, because they are defined by what the view shows.
    """

    name: str
    views: tuple[str, ...]
    without: tuple[str, ...] = ()
    exception: str | None = None


PROBES = (
    Probe("metadata: client, network, hours, order, sign-up, company", ("client", "hours", "order", "company")),
    Probe("client software and network", ("client",)),
    Probe("hours and weekdays", ("hours",)),
    Probe("order, ids, sign-up", ("order",)),
    Probe("company: who shares network, payment, sign-up day, software", ("company",)),
    Probe("one single prompt", ("prompt",)),
    Probe("recurrence of prompts", ("recurrence",)),
    Probe("presence of answers, failures", ("answers",)),
    Probe(
        "parameters", ("parameters",),
        exception="A6 is defined by n and seeds, A7 by logprobs, B10 (embeddings) by none; next line without them",
    ),
    Probe("parameters, without A6, A7 and B10", ("parameters",), without=("A6", "A7", "B10")),
    Probe(
        "volume and pace", ("volume",),
        exception="a campaign is defined by its budget: 1,000 answers are more than most tenants ask for in a month",
    ),
    Probe(
        "lengths of inputs and answers", ("lengths",),
        exception="a harvester wants answers: labels and embeddings are shapes of ordinary use alone",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What a probe reached."""

    probe: Probe
    auc: Figure

    @property
    def passed(self) -> bool:
        """Whether it stays below the limit, or need not."""
        return self.probe.exception is not None or self.auc.value <= MOST_AUC

    @property
    def gives_away(self) -> bool:
        """Whether it is above the limit by more than the chance of few campaigns explains."""
        return not self.passed and not self.auc.low <= MOST_AUC


class Audit:
    """Collects the views of accounts as they are simulated, then runs the probes."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []
        self._views: list[dict[str, list[float]]] = []

    def see(self, history: History) -> None:
        """Take in an account; one with few requests is left out."""
        if len(history.records) >= LEAST_REQUESTS:
            self._plans.append(history.plan)
            self._views.append(_views(history))

    def findings(self, seed: int = 0, draws: int = 100, probes: Sequence[Probe] = PROBES) -> list[Finding]:
        """Run the probes."""
        company = _company(self._plans)
        for view, row in zip(self._views, company, strict=True):
            view["company"] = row
        return [self._finding(probe, seed, draws) for probe in probes]

    def _finding(self, probe: Probe, seed: int, draws: int) -> Finding:
        rows = [row for row, plan in enumerate(self._plans) if plan.code not in probe.without]
        plans = [self._plans[row] for row in rows]
        table = np.array([[value for view in probe.views for value in self._views[row][view]] for row in rows])
        attack = np.array([plan.is_attack for plan in plans])
        weights = _weights(plans)
        scores = _out_of_fold(table, attack, weights, [plan.group for plan in plans], seed)
        resampling = Resampling([plan.template for plan in plans], attack, draws, seed)
        return Finding(probe, resampling.figure(lambda many: roc_auc(scores, attack, weights * many)))


def _weights(plans: Sequence[Plan]) -> Floats:
    members = Counter(plan.group for plan in plans if plan.is_attack)
    weights = np.array([1.0 / members[plan.group] if plan.is_attack else 1.0 for plan in plans])
    attack = np.array([plan.is_attack for plan in plans])
    # Ordinary accounts weigh as many campaigns as there are of their volume, so that no view can stand in for volume.
    volume = np.log2([plan.total for plan in plans]).astype(int)
    for size in np.unique(volume):
        here = volume == size
        weights[here & ~attack] *= weights[here & attack].sum() / max(1, (here & ~attack).sum())
    # Both kinds weigh the same in all, or the classifier would learn nothing but the prevalence.
    return np.asarray(np.where(attack, weights / weights[attack].sum(), weights / weights[~attack].sum()) * len(plans))


def _out_of_fold(
    table: Floats, attack: npt.NDArray[np.bool_], weights: Floats, groups: Sequence[str], seed: int
) -> Floats:
    scores = np.zeros(len(table))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    # One thread: on a busy machine the classifier's threads wait for each other many times longer than they work.
    with threadpool_limits(1):
        for learnt, judged in folds.split(table, attack, groups):
            model = HistGradientBoostingClassifier(
                max_iter=40, max_leaf_nodes=8, min_samples_leaf=20, l2_regularization=5.0, random_state=seed
            )
            model.fit(table[learnt], attack[learnt], sample_weight=weights[learnt])
            # Ranks within the fold: one with more campaigns leaves fewer to learn from, which would count against it.
            scores[judged] = rankdata(model.decision_function(table[judged])) / len(judged)
    return scores


def _views(history: History) -> dict[str, list[float]]:
    records, plan = history.records, history.plan
    moments = np.array([from_rfc3339(record["time"]).timestamp() for record in records])
    texts = [text_of(record) for record in records]
    chosen = hash_of(f"probe {plan.seed}") % len(records)
    return {
        "client": _client(records[0]["client"]),
        "hours": _hours(moments),
        "order": [plan.number, plan.created_days_before, float(int(records[0]["id"][:8], 16)), moments[0], moments[-1]],
        "prompt": [*embedding(texts[chosen]).astype(float), len(texts[chosen]), records[chosen]["turns"]],
        "recurrence": [1 - len(set(texts)) / len(texts), Counter(texts).most_common(1)[0][1] / len(texts)],
        "answers": [_share(records, "response"), float(np.mean([record["status"] != 200 for record in records]))],
        "parameters": _parameters(records),
        "volume": _volume(moments),
        "lengths": _lengths(records),
    }


def _client(client: dict[str, Any]) -> list[float]:
    hashed = np.zeros(4 * HASHED)
    for place, name in enumerate(("user_agent", "asn", "fingerprint", "network")):
        value = str(client[name]).split(".")[1] if name == "network" else client[name]
        hashed[place * HASHED + hash_of(f"{name} {value}") % HASHED] = 1.0
    return hashed.tolist()


def _hours(moments: Floats) -> list[float]:
    hours = np.bincount((moments // 3600 % 24).astype(int), minlength=24)
    weekdays = np.bincount(((moments - START_S) // 86400 % 7).astype(int), minlength=7)
    return [*(hours / len(moments)), *(weekdays / len(moments))]


def _parameters(records: list[Record]) -> list[float]:
    given = [record["parameters"] for record in records]
    names = ("seed", "logprobs", "n", "stream", "max_tokens")
    shares = [float(np.mean([name in one for one in given])) for name in names]
    warmth = [one["temperature"] for one in given if "temperature" in one]
    return [*shares, float(np.mean(warmth)) if warmth else -1.0, _share(records, "tools")]


def _volume(moments: Floats) -> list[float]:
    days = np.bincount(((moments - START_S) // 86400).astype(int))
    gaps = np.diff(moments)
    return [np.log(len(moments)), float((days > 0).sum()), days.max() / days[days > 0].mean(), gaps.std() / gaps.mean()]


def _lengths(records: list[Record]) -> list[float]:
    found = []
    for name in ("input_tokens", "output_tokens"):
        found += np.log1p(np.quantile([record["usage"][name] for record in records], (0.1, 0.5, 0.9))).tolist()
    return found


def _share(records: list[Record], name: str) -> float:
    return float(np.mean([record.get(name) is not None for record in records]))


def _company(plans: Sequence[Plan]) -> list[list[float]]:
    """Return, for each account, whether others share its network, payment, sign-up network and day, and software."""
    kinds = [
        [plan.habits.client["network"] for plan in plans],
        [plan.payment for plan in plans],
        [plan.signup_network for plan in plans],
        [f"{plan.signup_network} {plan.created_days_before:.0f}" for plan in plans],
        [f"{plan.habits.system} {plan.habits.client['fingerprint']}" for plan in plans],
    ]
    counts = [Counter(values) for values in kinds]
    return [[float(count[values[row]] > 1) for count, values in zip(counts, kinds, strict=True)]
            for row in range(len(plans))]  # fmt: skip
