"""A reference of ordinary accounts, for peers and isolation where an installation has few accounts of its own.

Made, not measured: each profile draws the habits of accounts (how often they repeat themselves, go on with a
conversation, how alike their requests are, how long in and out) from ranges chosen before any detector was fitted,
makes requests from them and passes these through the same accounts, evidence and features as real traffic. No text is
involved: fingerprints are random ones with the similarity that the habit says. The seed is fixed, so the frame is the
same everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from detector.account import Account
from detector.features import frame, row_of
from detector.observations import Observation

SEED = 2026
ACCOUNTS_PER_PROFILE = 6
REQUESTS = 40
_Range = tuple[float, float]


@dataclass(frozen=True)
class Profile:
    """Ranges that an ordinary account's habits are drawn from; lengths in tokens."""

    alike: _Range  # mean cosine between its requests
    repeats: _Range  # share of requests that ask an earlier item again
    continues: _Range  # share that go on with a conversation
    application: _Range  # own system prompt, tools or format: 0 to 1
    input: _Range
    output: _Range
    users: int = 0  # end users; 0: not named
    tools: bool = False


PROFILES = {
    "conversations": Profile((0.1, 0.4), (0.02, 0.3), (0.4, 0.8), (0.3, 1.0), (60, 600), (20, 200), users=30),
    "retrieval": Profile((0.5, 0.9), (0.0, 0.4), (0.0, 0.2), (0.8, 1.0), (400, 3000), (15, 150)),
    "labels": Profile((0.1, 0.7), (0.0, 0.2), (0.0, 0.0), (1.0, 1.0), (40, 400), (1, 12)),
    "evaluation": Profile((0.05, 0.7), (0.7, 1.0), (0.0, 0.0), (0.0, 1.0), (40, 400), (1, 300)),
    "writing": Profile((0.1, 0.5), (0.05, 0.5), (0.2, 0.6), (0.0, 0.6), (20, 400), (40, 300)),
    "translation": Profile((0.3, 0.7), (0.0, 0.1), (0.0, 0.0), (0.5, 1.0), (60, 600), (60, 600)),
    "templates": Profile((0.6, 0.9), (0.0, 0.2), (0.0, 0.0), (0.4, 1.0), (40, 200), (80, 400)),
    "agents": Profile((0.4, 0.9), (0.0, 0.1), (0.7, 0.95), (1.0, 1.0), (500, 8000), (30, 400), tools=True),
    "load": Profile((0.9, 1.0), (0.9, 1.0), (0.0, 0.0), (0.0, 1.0), (10, 500), (10, 500)),
}


@functools.cache
def ordinary(seed: int = SEED) -> pd.DataFrame:
    """Return the reference frame: one row of `features.COLUMNS` for each of the profiles' accounts."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, profile in PROFILES.items():
        for number in range(ACCOUNTS_PER_PROFILE):
            account = Account(f"reference {name} {number}")
            for seen in _requests(rng, account.name, profile):
                account.observe(seen)
            rows.append(row_of(account, account.last_seen))
    return frame(rows)


def _requests(rng: np.random.Generator, account: str, profile: Profile) -> list[Observation]:
    alike, repeats, continues, application = (
        rng.uniform(*bounds) for bounds in (profile.alike, profile.repeats, profile.continues, profile.application)
    )
    inputs, outputs = (_lengths(rng, bounds) for bounds in (profile.input, profile.output))
    theme, items = _direction(rng), _items(rng)
    made: list[Observation] = []
    conversation, turns = 0, 0
    for number in range(REQUESTS):
        going_on = number > 0 and rng.random() < continues
        conversation, turns = (conversation, turns + 1) if going_on else (conversation + 1, 1)
        if made and rng.random() < repeats:
            minhash, embedding = made[rng.integers(len(made))].minhash, made[rng.integers(len(made))].embedding
        else:
            minhash, embedding = next(items), _unit(np.sqrt(alike) * theme + np.sqrt(1 - alike) * _direction(rng))
        made.append(
            Observation(
                id=f"{account} {number}",
                time=number * 900.0,
                account=account,
                live=False,
                cell="reference",
                teacher=True,
                cost=0,
                input=float(inputs[number]),
                output=float(outputs[number]),
                turns=float(turns),
                answered_tools=profile.tools and going_on,
                user=f"u{rng.integers(profile.users)}" if profile.users else None,
                conversation=f"{account} {conversation}",
                skeleton="one",
                application=float(application),
                choices=1,
                sampled=True,
                seed=None,
                top_logprobs=0,
                elicits=False,
                system_elicits=False,
                grades=False,
                minhash=minhash,
                embedding=embedding,
                has_text=True,
            )
        )
    return made


def _lengths(rng: np.random.Generator, bounds: _Range) -> npt.NDArray[np.float64]:
    median = np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1])))
    return np.asarray(np.maximum(1.0, np.rint(median * np.exp(rng.normal(0.0, 0.4, REQUESTS)))))


def _items(rng: np.random.Generator) -> Iterator[npt.NDArray[np.uint32]]:
    while True:
        yield rng.integers(0, 2**32, 64, dtype=np.uint32)


def _direction(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return _unit(rng.normal(size=128))


def _unit(vector: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
