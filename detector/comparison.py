"""What the model in charge and the one in its shadow said of the same accounts on the same days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from detector.shadow import COMPARED
from detector.watch import Watch
from gateway.ledger.alerts import Alert
from gateway.ledger.errors import NotFound
from gateway.ledger.identifiers import to_rfc3339

MINIMUM_ACCOUNT_DAYS = 3000  # with no false alert in so many, there is less than one in 1,000 (rule of three, 95 %)
MOST_SHOWN = 20  # disagreements
Bools = npt.NDArray[np.bool_]


def compare(watch: Watch, decided: Mapping[str, Alert]) -> dict[str, Any]:
    """Return both models' figures since the shadow began; `NotFound` where none runs.

    `decided`: by account, the newest alert that a person closed. People only judge what the model in charge raised, so
    agreement with them can show that the shadow misses something, and never that it finds more. Canaries are left out.
    """
    if watch.shadow is None:
        raise NotFound("no model runs in the shadow: `detector.shadow_model` names its file; then start the detector")
    compared = _compared(watch)
    names = np.array(watch.book.names, dtype=object)
    seen = (compared["charge"] > 0) & ~np.isin(names, list(watch.canaries))
    charge, shadow = seen & (compared["charge_time"] > 0), seen & (compared["shadow_time"] > 0)
    days = int(compared["days"][seen].sum())
    return {
        "in_charge": watch.model.id,
        "shadow": watch.shadow.model.id,
        "accounts": int(seen.sum()),
        "account_days": days,
        "flagged_by_both": int((charge & shadow).sum()),
        "flagged_by_in_charge_only": int((charge & ~shadow).sum()),
        "flagged_by_shadow_only": int((shadow & ~charge).sum()),
        "in_charge_alerts_per_1000_account_days": _rate(charge, days),
        "shadow_alerts_per_1000_account_days": _rate(shadow, days),
        "rank_correlation": _rank_correlation(compared[seen]),
        **_agreement(names, charge, shadow, decided),
        "disagreements": _disagreements(watch, compared, charge != shadow, decided),
    }


def is_enough(found: Mapping[str, Any]) -> bool:
    """Whether so many account-days were compared that a person may adopt the shadow without saying more."""
    return bool(found["account_days"] >= MINIMUM_ACCOUNT_DAYS)


def _compared(watch: Watch) -> npt.NDArray[np.void]:
    assert watch.shadow is not None
    found = np.zeros(len(watch.book), COMPARED)
    known = watch.shadow.compared
    found[: len(known)] = known[: len(found)]
    return found


def _rate(flagged: Bools, days: int) -> float | None:
    return round(1000 * int(flagged.sum()) / days, 3) if days else None


def _rank_correlation(compared: npt.NDArray[np.void]) -> float | None:
    """Return Spearman's, of the newest scores; None where either has one score for all."""
    charge, shadow = compared["charge_now"], compared["shadow_now"]
    if len(np.unique(charge)) < 2 or len(np.unique(shadow)) < 2:
        return None
    return round(float(spearmanr(charge, shadow).statistic), 3)


def _agreement(
    names: npt.NDArray[np.object_], charge: Bools, shadow: Bools, decided: Mapping[str, Alert]
) -> dict[str, Any]:
    found = {}
    for state in ("confirmed", "dismissed"):
        judged = np.isin(names, [name for name, alert in decided.items() if alert.state == state])
        found[f"{state}_by_people"] = {
            "accounts": int(judged.sum()),
            "flagged_by_in_charge": int((judged & charge).sum()),
            "flagged_by_shadow": int((judged & shadow).sum()),
        }
    return found


def _disagreements(
    watch: Watch, compared: npt.NDArray[np.void], chosen: Bools, decided: Mapping[str, Alert]
) -> list[dict[str, Any]]:
    """Return the accounts on which both differ most, with the first reason of the one that would alert."""
    assert watch.shadow is not None
    other = Watch(watch.minimum_requests, watch.uses, watch.shadow.model)
    other.book, other.canaries = watch.book, watch.canaries
    places = np.flatnonzero(chosen)
    odds = [_odds(compared[name][places]) for name in ("charge", "shadow")]
    found = []
    for place in places[np.argsort(-np.abs(odds[0] - odds[1]), kind="stable")][:MOST_SHOWN].tolist():
        row, name = compared[place], watch.book.names[place]
        by_shadow = bool(row["shadow_time"] > 0)
        who, by = (other, "shadow") if by_shadow else (watch, "charge")
        reasons = who.assess(name, float(row[by])).reasons
        alert = decided.get(name)
        found.append(
            {
                "account": name,
                "flagged_by": "shadow" if by_shadow else "in_charge",
                "since": to_rfc3339(datetime.fromtimestamp(float(row[f"{by}_time"]), UTC)),
                "in_charge_score": round(float(row["charge"]), 4),
                "shadow_score": round(float(row["shadow"]), 4),
                "decided": None if alert is None else alert.state,
                "note": None if alert is None else alert.note,
                "reason": reasons[0]["text"] if reasons else None,
            }
        )
    return found


def _odds(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    bounded = np.clip(score, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(bounded / (1 - bounded)))
