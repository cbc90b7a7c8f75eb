"""Numbers, money and times as people read them; every one is a Jinja filter of the same name."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from markupsafe import Markup, escape

from gateway.ledger.identifiers import now, to_rfc3339

THIN_SPACE = "\u2009"
NO_BREAK = "\u00a0"
NANO = 1_000_000_000
MINUTE, HOUR, DAY = 60, 3600, 86_400


def number(value: float | None, digits: int = 0) -> str:
    """Write a number with thin spaces between thousands; – for none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", THIN_SPACE).replace("-", "−")


def compact(value: float | None) -> str:
    """Write a count in three figures, such as `1.94 M`, `35 k` or `812`."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            scaled = value / size
            digits = 2 if abs(scaled) < 10 and unit != "k" else 1 if abs(scaled) < 100 else 0
            return f"{scaled:.{digits}f}{NO_BREAK}{unit}"
    return number(value)


def money(nano_dollars: int | None) -> str:
    """Write nano-dollars as dollars: cents from one dollar on, more figures below, so that small is not nothing."""
    if nano_dollars is None:
        return "–"
    dollars = nano_dollars / NANO
    if nano_dollars == 0 or abs(dollars) >= 1:
        digits = 2
    elif abs(dollars) >= 0.01:
        digits = 3
    else:
        digits = 5
    return ("−" if dollars < 0 else "") + f"${number(abs(dollars), digits)}"


def price(nano_dollars_per_token: int | None) -> str:
    """Write a price per token as dollars per million tokens."""
    return "–" if nano_dollars_per_token is None else f"${nano_dollars_per_token / 1000:.2f}"


def percent(share: float | None) -> str:
    """Write a share as a percentage, with one decimal below ten."""
    if share is None:
        return "–"
    digits = 1 if 0 < abs(share) < 0.0995 else 0
    return f"{share * 100:.{digits}f}{NO_BREAK}%"


def measure(value: object, feature: str = "") -> str:
    """Write a feature's value: shares as percentages, the rest in as many figures as tell something."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    if is_share(feature) and 0 <= value <= 1:
        return percent(value)
    if abs(value) >= 10_000:
        return compact(value)
    return number(value, 0 if value == round(value) or abs(value) >= 100 else 2 if abs(value) < 10 else 1)


def is_share(feature: str) -> bool:
    """Tell whether a feature is a share of one by its name."""
    return any(part in ("share", "rate", "ratio", "fraction", "novelty", "spread") for part in feature.split("_"))


def ago(moment: datetime | None, reference: datetime | None = None) -> str:
    """Write how long ago a moment was, or in how long it will be."""
    if moment is None:
        return "never"
    seconds = ((reference or now()) - moment).total_seconds()
    if abs(seconds) < MINUTE:
        return "just now"
    text = span(timedelta(seconds=abs(seconds)))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def span(duration: timedelta) -> str:
    """Write a duration in its largest unit, such as `3 d`."""
    seconds = duration.total_seconds()
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds / size:.0f}{NO_BREAK}{unit}"
    return f"{seconds:.0f}{NO_BREAK}s"


def clock(moment: datetime) -> str:
    """Write the exact time in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(value: date | datetime | str) -> str:
    """Write a day, such as `24 Nov`."""
    parsed = date.fromisoformat(value[:10]) if isinstance(value, str) else value
    return f"{parsed.day} {parsed:%b}"


def when(moment: datetime | None) -> Markup:
    """Write a relative time with the exact one on hover and in `datetime`."""
    if moment is None:
        return Markup("–")
    template = '<time datetime="{}" title="{}">{}</time>'
    return Markup(template).format(to_rfc3339(moment), clock(moment), ago(moment))


def short(digest: str) -> Markup:
    """Write the first twelve characters of a hash or id, the whole on hover."""
    return Markup('<code title="{}">{}</code>').format(digest, escape(digest[:12]))


TAKEN = {
    "watch": "watched",
    "strip": "stripped",
    "divert": "diverted",
    "cap": "capped",
    "verify": "asked to declare",
    "suspend": "suspended",
}


def taken(action: str) -> str:
    """Write what a step makes of an account, such as `suspended`."""
    return TAKEN.get(action, action)


DEEDS = {
    "account.create": "made the account",
    "alert.assign": "gave the alert to somebody",
    "alert.appeal": "noted an appeal and opened the alert again",
    "alert.assess": "began to assess what was taken",
    "alert.assessed": "assessed what was taken",
    "alert.cap": "confirmed the alert and capped",
    "alert.dismiss": "dismissed the alert",
    "alert.divert": "confirmed the alert and diverted",
    "alert.strip": "confirmed the alert and stripped",
    "alert.suspend": "confirmed the alert and suspended",
    "alert.undo": "took the decision back and opened the alert again",
    "alert.verify": "confirmed the alert and asked for a declared use",
    "alert.watch": "confirmed the alert and watches",
    "bulk.cap": "confirmed alerts in bulk and capped",
    "bulk.dismiss": "dismissed alerts in bulk",
    "bulk.divert": "confirmed alerts in bulk and diverted",
    "bulk.strip": "confirmed alerts in bulk and stripped",
    "bulk.undo": "took a bulk decision back",
    "bulk.watch": "confirmed alerts in bulk and watches",
    "consent.grant": "recorded consent to training",
    "consent.withdraw": "recorded the withdrawal of consent",
    "control.restore": "restored a backup",
    "enforce.cap": "put a cap in force",
    "enforce.clear": "cleared what was in force",
    "enforce.divert": "put a diversion in force",
    "enforce.strip": "put stripping in force",
    "enforce.suspend": "put a suspension in force",
    "enforce.undo": "undid a decision",
    "enforce.verify": "asked for a declared use",
    "enforce.watch": "put a watch in force",
    "key.create": "made a key",
    "key.revoke": "revoked a key",
    "notification.test": "sent a test message",
    "operator.create": "made the operator",
    "operator.login": "logged in",
    "operator.login_failed": "failed to log in",
    "operator.logout": "logged out",
    "policy.create": "wrote the policy down",
    "policy.disable": "switched the policy off",
    "policy.enable": "switched the policy on",
    "prompts.reveal": "revealed prompts",
    "snapshot.approve": "approved the snapshot",
    "snapshot.propose": "asked for the snapshot",
    "student.candidate": "recorded that the gate passed it",
    "student.promote": "promoted it",
    "student.refused": "recorded that the gate refused it",
    "student.register": "registered it",
    "student.retire": "retired it",
    "student.stage": "began the next stage of its rollout",
    "student.stop_rollout": "ended its rollout",
    "student.undecided": "recorded that the gate had too few pairs for a verdict",
    "student.rollback": "rolled it back",
    "account.contract": "noted what its contract allows",
    "account.erase": "asked for an erasure",
    "account.erase_stopped": "was stopped from erasing by a legal hold",
    "account.erased": "erased everything of an account",
    "account.hold": "put on legal hold",
    "account.keep_text": "changed whether texts are kept",
    "account.release": "released from a legal hold",
    "account.retention": "set how long what is kept",
    "account.withdraw": "asked for a withdrawal",
    "account.withdrawn": "took withdrawn rows out of snapshots",
    "use.declare": "granted a declared use",
    "use.revoke": "revoked a declared use",
    "user.opt_in": "let an end user back into training",
    "user.opt_out": "took an end user out of training",
}


FINDINGS = {
    "harvesting": "harvesting for a rival model",
    "reseller": "a reseller",
    "declared_use": "a declared use",
    "test_traffic": "test traffic",
    "our_mistake": "a mistake of ours",
    "other": "something else",
}


def finding(name: str) -> str:
    """Write what an alert turned out to be."""
    return FINDINGS.get(name, label(name))


LEFT_OUT = {
    "origin": "made up, not asked by anybody",
    "no_store": "did not say store: true",
    "no_consent": "its account does not consent to training",
    "before_consent": "asked before its account consented",
    "account_barred": "its account has an open or confirmed alert",
    "not_the_teacher": "answered by another model than the teacher",
    "licence": "the teacher’s licence does not allow it",
    "failed": "the request did not succeed",
    "no_text": "its text was not kept",
    "unfinished": "the answer was cut short",
    "other_shape": "tools, reasoning or several choices",
    "empty": "the answer is empty",
    "incomplete": "a part of the request was not kept",
    "opted_out": "its end user opted out",
    "student_in_conversation": "a student has answered in its conversation",
    "duplicate": "repeats an earlier prompt",
    "over_cap": "its account has more rows than one may give",
    "contaminated": "nearly one of the evaluation rows",
    "held_out": "its account is one that only the evaluation is about",
    "straddles": "it, or one nearly the same, goes on into a later split",
}


def left_out(reason: str) -> str:
    """Write why a row was left out; a reason without words of its own stays as it is."""
    return LEFT_OUT.get(reason, label(reason))


def deed(action: str) -> str:
    """Write an audited action as a verb; an action without words of its own stays as it is."""
    return DEEDS.get(action, action)


def label(name: str) -> str:
    """Write a field's name as words, such as `left out`."""
    return name.replace("_", " ")


def points(share: float | None) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return "–" if share is None else f"{share * 100:+.1f}".replace("-", "−")


def plural(count: float, word: str, words: str | None = None) -> str:
    """Write a count with its noun, such as `1 request` or `2 requests`."""
    return f"{number(count)} {word if count == 1 else words or word + 's'}"


FILTERS = {
    function.__name__: function
    for function in (number, compact, money, price, percent, points, measure, ago, span, clock, day, when, short)
} | {function.__name__: function for function in (plural, deed, finding, label, left_out, taken)}
