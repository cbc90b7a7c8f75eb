"""How accounts are divided into those learnt from and those judged: five ways, each in folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.evaluation.planning import Plan, hash_of
from detector.evaluation.traces import DAYS

Bools = npt.NDArray[np.bool_]
FORWARD_FROM = DAYS // 2
RANDOM_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """Masks over accounts, shape (accounts,), and over days, shape (28,), for learning and for judging."""

    name: str
    learnt: Bools
    judged: Bools
    learnt_days: Bools
    judged_days: Bools


@dataclass(frozen=True)
class Split:
    """A way of dividing; `headline` ones count, random cross-validation only shows how much leaks."""

    name: str
    folds: tuple[Fold, ...]
    headline: bool = True


def every_split(plans: Sequence[Plan]) -> list[Split]:
    """Return the protocol's splits."""
    attack = np.array([plan.is_attack for plan in plans])
    code = np.array([plan.code for plan in plans])
    corpus = np.array([plan.corpus.name for plan in plans])
    held_out = np.array([hash_of(f"half {plan.template}") % 2 == 1 for plan in plans])
    whole = np.ones(DAYS, dtype=bool)
    late = np.arange(DAYS) >= FORWARD_FROM

    def fold(name: str, learnt: Bools, judged: Bools) -> Fold:
        return Fold(name, learnt, judged, whole, whole)

    everyone = np.ones(len(plans), dtype=bool)
    attack_types = [
        fold(name, np.where(attack, code != name, ~held_out), np.where(attack, code == name, held_out))
        for name in _named(code[attack])
    ]
    benign_types = [
        fold(name, np.where(attack, ~held_out, code != name), np.where(attack, held_out, code == name))
        for name in _named(code[~attack])
    ]
    # What an account does beside its main use may be about another corpus: it is not learnt from either.
    touches = {name: np.array([name in plan.corpora for plan in plans]) for name in sorted(set(corpus.tolist()))}
    corpora = [fold(name, ~touched, corpus == name) for name, touched in touches.items()]
    part = np.array([hash_of(f"random {plan.seed}") % RANDOM_FOLDS for plan in plans])
    return [
        Split("leave-attack-type-out", tuple(attack_types)),
        Split("leave-benign-type-out", tuple(benign_types)),
        Split("leave-corpus-out", tuple(corpora)),
        Split("time-forward", (Fold("last fortnight", everyone, everyone, ~late, late),)),
        Split("random CV", tuple(fold(f"fold {n}", part != n, part == n) for n in range(RANDOM_FOLDS)), headline=False),
    ]


def _named(codes: npt.NDArray[np.str_]) -> list[str]:
    return sorted(set(codes.tolist()), key=lambda code: int(code[1:]))
