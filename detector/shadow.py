"""A model in the shadow: it concludes about each account as the one in charge does, at the same looks, raising nothing.

States are shared, so it costs one more evaluation a look. What both said since it began is kept an account at a time,
in a fixed size, and lies in the checkpoint: it goes with an account, and is made again where the lake is read again.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from detector import verdicts
from detector.scoring import Model
from detector.sketch import States
from detector.verdicts import OPINION, Places, Verdicts

COMPARED = np.dtype(
    [
        ("days", "<u4"),  # active days that both looked at
        ("charge", "<f8"),  # the highest score of the model in charge since the shadow began
        ("shadow", "<f8"),
        ("charge_time", "<f8"),  # when that first called for an alert since then, in seconds; 0: never
        ("shadow_time", "<f8"),
        ("charge_now", "<f8"),  # the scores at the newest look
        ("shadow_now", "<f8"),
    ]
)


class Shadow:
    """One model and its opinion of the accounts of a book, by their places; `charge` is the id of who is in charge."""

    def __init__(self, model: Model, charge: str) -> None:
        self.model, self.charge = model, charge
        self._opinions, self._compared = np.zeros(0, OPINION), np.zeros(0, COMPARED)

    @property
    def opinions(self) -> Verdicts:
        """What it concludes, `OPINION`; may be shorter than the book."""
        return self._opinions

    @property
    def compared(self) -> npt.NDArray[np.void]:
        """What both said, `COMPARED`; may be shorter than the book."""
        return self._compared

    def look(self, places: Places, values: npt.NDArray[np.float32], covered: npt.NDArray[np.bool_]) -> None:
        """Look at accounts whose features are `values`."""
        self._grow(int(places.max(initial=-1)) + 1)
        verdicts.look(self.model, self._opinions, places, values, covered)

    def set_scores(self, size: int) -> npt.NDArray[np.float64]:
        """Return the scores by linked set of so many accounts, to be written to."""
        self._grow(size)
        scores: npt.NDArray[np.float64] = self._opinions["set_score"][:size]
        return scores

    def record(self, places: Places, states: States, charge: Verdicts, alert: float) -> None:
        """Bring scores up to date after the model in charge did (`charge`, whose alerts begin at `alert`)."""
        self._grow(len(states))
        verdicts.record(self.model, self._opinions, places, states, charge["live"])
        time = states["last"][places]
        for name, scores, bound in (
            ("charge", charge["score"][places], alert),
            ("shadow", self._opinions["score"][places], self.model.alert),
        ):
            self._compared[f"{name}_now"][places] = scores
            self._compared[name][places] = np.maximum(self._compared[name][places], scores)
            first = self._compared[f"{name}_time"][places]
            self._compared[f"{name}_time"][places] = np.where((first == 0) & (scores >= bound), time, first)

    def close_day(self, active: Places) -> None:
        """Count a day of the accounts that were active on it."""
        self._grow(int(active.max(initial=-1)) + 1)
        self._compared["days"][active] += 1
        self._opinions["day_peak"] = 0.0

    def keep(self, places: Places) -> None:
        """Forget all accounts but these; the first of them has place 0 from now on, and so on."""
        self._grow(int(places.max(initial=-1)) + 1)
        self._opinions, self._compared = self._opinions[places].copy(), self._compared[places].copy()
        self._opinions["set_score"] = 0.0

    def blank(self, place: int) -> None:
        """Forget all about one account."""
        if place < len(self._opinions):
            self._opinions[place], self._compared[place] = np.zeros((), OPINION), np.zeros((), COMPARED)

    def hold(self, opinion: Verdicts) -> None:
        """Take up an opinion that it had before; what is compared begins anew."""
        self._opinions = opinion.copy()
        self._compared = np.zeros(len(opinion), COMPARED)

    def to_bytes(self) -> bytes:
        """Return all of it as bytes, ids of both models included."""
        file = io.BytesIO()
        np.savez(
            file,
            models=np.array([self.model.id, self.charge]),
            opinions=np.frombuffer(self._opinions.tobytes(), np.uint8),
            compared=np.frombuffer(self._compared.tobytes(), np.uint8),
        )
        return file.getvalue()

    def restore(self, raw: bytes) -> None:
        """Take up what `to_bytes` wrote, as far as it is about this model; raises `ValueError` where it is damaged.

        Where another was in charge the comparison begins anew.
        """
        model, charge, opinion, compared = _parts(raw)
        if model != self.model.id:
            return
        self.hold(opinion)
        if charge == self.charge:
            self._compared = compared

    def _grow(self, size: int) -> None:
        more = size - len(self._opinions)
        if more > 0:
            self._opinions = np.concatenate([self._opinions, np.zeros(more, OPINION)])
            self._compared = np.concatenate([self._compared, np.zeros(more, COMPARED)])


def opinion_of(model_id: str, raw: bytes) -> Verdicts | None:
    """Return the opinion of a model from what `Shadow.to_bytes` wrote; None where it is another's."""
    if not raw:
        return None
    model, _, opinion, _ = _parts(raw)
    return opinion if model == model_id else None


def _parts(raw: bytes) -> tuple[str, str, Verdicts, npt.NDArray[np.void]]:
    with np.load(io.BytesIO(raw), allow_pickle=False) as found:
        model, charge = found["models"].tolist()
        opinion = np.frombuffer(found["opinions"].tobytes(), OPINION).copy()
        compared = np.frombuffer(found["compared"].tobytes(), COMPARED).copy()
    if len(opinion) != len(compared):
        raise ValueError("a shadow whose parts have different lengths")
    return model, charge, opinion, compared
