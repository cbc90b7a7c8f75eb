"""An assessment in words, for whoever decides about the alert."""

from __future__ import annotations

from distiller.assessment import Assessment
from distiller.gains import Gain
from distiller.selection import WORDS

PROVES_NOTHING = (
    "A gain in its own domain is what learning from any narrow traffic gives: it says that the domain can be learnt "
    "from what was collected, not that somebody did. A gain on general prompts says that the collection teaches more "
    "than its own domain. Nothing follows from this by itself; a person decides about the alert."
)


def in_words(made: Assessment) -> str:
    """Return the figures as lines of text, their limits after them."""
    probe = made.probe
    where = "accounts that no probe learnt from" if made.apart else "the accounts that ordinary rows are of"
    lines = [
        f"Alert {made.alert}: {', '.join(made.accounts)}, answered by {made.teacher}.",
        f"{probe.seeds} probes of each side ({probe.layers} layers, {made.parameters:,} parameters) learnt from "
        f"{probe.rows:,} rows each: {made.tokens['suspect']:,} tokens of its answers, or {made.tokens['ordinary']:,} "
        f"of the teacher's answers to {made.ordinary_accounts} accounts without an alert.",
        _gain("on held-out prompts of its own domain", made.domain),
        _gain(f"on general prompts, those of {where}", made.general),
        f"Of its rows {made.usable:,} could be used; left out: {_left_out(made.left_out)}.",
        PROVES_NOTHING,
        f"Probes and rows are gone; the figures are in the audit log. It took {made.seconds:.0f} s.",
    ]
    return "\n".join(lines)


def _gain(where: str, gain: Gain) -> str:
    verdict = "ahead" if gain.low > 0 else "behind" if gain.high < 0 else "neither ahead nor behind for certain"
    return (
        f"{where.capitalize()}: {gain.gain:+.3f} nats a token [{gain.low:+.3f}, {gain.high:+.3f}], {verdict}; "
        f"{gain.rows} rows in {gain.groups} groups, seeds {', '.join(f'{one:+.3f}' for one in gain.by_seed)}. "
        f"Losses: its probes {gain.suspect:.3f}, ordinary ones {gain.ordinary:.3f}, untrained {gain.untrained:.3f}, "
        f"the teacher itself {gain.teacher:.3f}."
    )


def _left_out(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {WORDS[reason]}" for reason, count in counts.items()) or "none"
