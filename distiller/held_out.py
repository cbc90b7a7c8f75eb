"""Which accounts the evaluation asks about: those that nothing is learnt from, where a task has accounts enough.

A student that has only seen one customer's tickets may know the customer and not the task. Accounts are drawn by the
hash of their names, until their newest rows are as many as the gate asks for and the others' older ones are enough to
train on; where no draw gives both, the split is by conversation and time alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from distiller.rows import Row
from distiller.splitting import Sizes

# Where the evaluation may begin: the newest fifth of the rows first, then earlier, to leave much to train on.
_SHARES = (0.8, 0.7, 0.6, 0.5)


def held_out(rows: Sequence[Row], sizes: Sizes) -> frozenset[str]:
    """Return the accounts that the evaluation is to be about; none where there are too few accounts or rows."""
    ordered = sorted(rows, key=lambda row: (row.time, row.id))
    names = sorted({row.account for row in rows}, key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) < 2:
        return frozenset()
    for share in _SHARES:
        cut = int(len(ordered) * share)
        found = _drawn(names, ordered[:cut], ordered[cut:], sizes)
        if found:
            return found
    return frozenset()


def _drawn(names: Sequence[str], older: Sequence[Row], newer: Sequence[Row], sizes: Sizes) -> frozenset[str]:
    early, late = Counter(row.account for row in older), Counter(row.account for row in newer)
    # A tenth more than asked for, because what is nearly the same stays together and may be left out.
    wanted, spare = 1.1 * sizes.gate, early.total() - 1.1 * (sizes.calibration + sizes.least_train)
    held: set[str] = set()
    for name in names:
        if sum(late[one] for one in held) >= wanted:
            return frozenset(held)
        if late[name] and early[name] <= spare:
            held.add(name)
            spare -= early[name]
    return frozenset(held) if sum(late[one] for one in held) >= wanted else frozenset()
