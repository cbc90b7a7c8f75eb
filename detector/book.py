"""All accounts that the detector knows: their states, what was concluded about each, and a few ids of its requests.

It grows by accounts, never by requests, and is written to and read from bytes: no pickle, numbers and JSON alone.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from detector import sketch
from detector.columns import Columns
from detector.sketch import States
from detector.verdicts import VERDICT

EXAMPLES, APART = 6, 5  # ids that are kept of an account, and how many requests there are for each slot, about
_VERSION = 2


class Book:
    """Accounts by name and by place; `states`, `verdicts` and `examples` have one row an account."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._place: dict[str, int] = {}
        self._states, self._verdicts = sketch.empty(16), np.zeros(16, VERDICT)
        self._examples = np.full((16, EXAMPLES), None, dtype=object)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._place

    @property
    def states(self) -> States:
        """The states, shape (accounts,)."""
        return self._states[: len(self.names)]

    @property
    def verdicts(self) -> npt.NDArray[np.void]:
        """What was concluded, `VERDICT`, shape (accounts,)."""
        return self._verdicts[: len(self.names)]

    def place(self, name: str) -> int:
        """Return an account's place; raises `KeyError` where it is not known."""
        return self._place[name]

    def places(self, names: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the places of accounts; those that are new are entered."""
        found = []
        for name in names:
            if name not in self._place:
                self._place[name] = len(self.names)
                self.names.append(name)
            found.append(self._place[name])
        self._grow()
        return np.array(found, dtype=np.int64)

    def note(self, rows: Columns, places: npt.NDArray[np.int64]) -> None:
        """Count what is no feature (live requests, cost), and keep ids of answered requests."""
        np.add.at(self._verdicts["live"], places, rows.live.astype(np.uint32))
        np.add.at(self._verdicts["cost"], places, np.where(rows.answered, rows.cost, 0.0))
        chosen = np.flatnonzero(rows.answered & ~rows.tool_results)
        # Where an id goes rests on the id, so that the ids kept do not rest on how rows were cut into rounds.
        slot = np.array([zlib.crc32(each.encode()) for each in rows.id[chosen]], np.int64) % (EXAMPLES * APART)
        kept = slot < EXAMPLES
        self._examples[places[chosen][kept], slot[kept]] = rows.id[chosen][kept]

    def blank(self, name: str) -> None:
        """Forget all about an account but its name."""
        place = self._place[name]
        self._states[place : place + 1], self._verdicts[place] = sketch.empty(1), np.zeros((), VERDICT)
        self._examples[place] = None

    def examples(self, name: str, count: int = 3) -> list[str]:
        """Return ids of some of an account's requests."""
        return [each for each in self._examples[self._place[name]] if each is not None][:count]

    def forget(self, names: Iterable[str]) -> npt.NDArray[np.int64]:
        """Remove accounts with all that is kept of them; returns the places, before, of those that stay."""
        gone = set(names) & self._place.keys()
        stay = np.array([place for place, name in enumerate(self.names) if name not in gone], dtype=np.int64)
        if gone:
            self._put([self.names[place] for place in stay], self.states[stay], self.verdicts[stay],
                      self._examples[stay])  # fmt: skip
        return stay

    def to_bytes(self) -> bytes:
        """Return everything as bytes."""
        text = json.dumps({"names": self.names, "examples": self._examples[: len(self)].tolist()})
        file = io.BytesIO()
        np.savez(
            file,
            version=np.int64(_VERSION),
            text=np.frombuffer(text.encode(), np.uint8),
            states=np.frombuffer(sketch.to_bytes(self.states), np.uint8),
            verdicts=np.frombuffer(self.verdicts.tobytes(), np.uint8),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Book:
        """Return what `to_bytes` wrote; raises `ValueError` where it is of another version or damaged."""
        with np.load(io.BytesIO(raw), allow_pickle=False) as found:
            if int(found["version"]) != _VERSION:
                raise ValueError(f"a checkpoint of version {int(found['version'])}, {_VERSION} is wanted")
            text = json.loads(found["text"].tobytes())
            states = sketch.from_bytes(found["states"].tobytes())
            verdicts = np.frombuffer(found["verdicts"].tobytes(), VERDICT).copy()
        if not len(states) == len(verdicts) == len(text["names"]):
            raise ValueError("a checkpoint whose parts have different lengths")
        book = cls()
        examples = np.array(text["examples"], dtype=object).reshape(-1, EXAMPLES)
        book._put(text["names"], states, verdicts, examples)
        return book

    def _put(
        self, names: Sequence[str], states: States, verdicts: npt.NDArray[np.void], examples: npt.NDArray[np.object_]
    ) -> None:
        self.names = list(names)
        self._place = {name: place for place, name in enumerate(self.names)}
        self._states, self._verdicts, self._examples = states.copy(), verdicts.copy(), examples.copy()
        self._grow()

    def _grow(self) -> None:
        have, need = len(self._states), len(self.names)
        if need <= have:
            return
        more = max(need, 2 * have, 16) - have
        self._states = np.concatenate([self._states, sketch.empty(more)])
        self._verdicts = np.concatenate([self._verdicts, np.zeros(more, VERDICT)])
        self._examples = np.concatenate([self._examples, np.full((more, EXAMPLES), None, dtype=object)])
