"""The demo's task: its requests can be drawn again, are many, and say what their label says."""

import re
from collections import Counter

from demo.foreign import FOREIGN
from demo.tickets import FOREIGN_TEST, FOREIGN_TUNING, LABELS, SYSTEM_PROMPT, phrases, tickets


def test_the_same_seed_draws_the_same_tickets() -> None:
    """A seed names its tickets for ever; another seed names others."""
    assert tickets(3, 50) == tickets(3, 50)
    assert tickets(3, 50) != tickets(4, 50)


def test_a_draw_has_no_request_twice() -> None:
    """The demo's 1,700 live requests differ from each other, also when case is ignored."""
    texts = [ticket.text.lower() for ticket in tickets(1, 1700)]
    assert len(set(texts)) == 1700


def test_no_constant_answer_does_well() -> None:
    """The labels are about equally frequent, so that the best constant answer is right on less than a quarter."""
    counts = Counter(ticket.label for ticket in tickets(2, 1200))
    assert set(counts) == set(LABELS)
    assert max(counts.values()) < 300


def test_tuning_requests_and_unseen_requests_share_no_core() -> None:
    """No request that the teacher is tuned on has a core that it is held out on, for any label."""
    tuned = " ".join(ticket.text.lower() for ticket in tickets(5, 3000, "tuning"))
    for label in LABELS:
        cores = phrases()["labels"][label]["cores"]
        assert len(cores) == len(set(cores)) >= 20
        assert not [core for core in cores[3::4] if _literal(core) in tuned]
        # The search above finds what is there.
        assert len([core for core in cores[0::4] if _literal(core) in tuned]) >= 4


def _literal(core: str) -> str:
    """The longest stretch of a core that no slot interrupts."""
    return max(re.split(r"\{.*?\}", core.lower()), key=len)


def test_every_slot_is_filled() -> None:
    """No request shows a slot's name, and none is long."""
    for ticket in tickets(6, 3000):
        assert "{" not in ticket.text
        assert "}" not in ticket.text
        assert 8 < len(ticket.text) <= 152


def test_a_word_of_another_topic_is_common() -> None:
    """Looking for one topic's word does not label the requests: those that say 'hub' have many labels."""
    counts = Counter(ticket.label for ticket in tickets(7, 2000) if "hub" in ticket.text.lower())
    assert len([label for label, count in counts.items() if count >= 10]) >= 4


def test_the_system_prompt_names_every_label() -> None:
    """A model is told the labels it may answer."""
    assert all(label in SYSTEM_PROMPT for label in LABELS)
    assert len(LABELS) <= 8


def test_foreign_requests_are_many_and_halved() -> None:
    """At least 100 foreign requests are kept for the test alone, and no request is in both halves or is a ticket."""
    assert len(FOREIGN) == len(set(FOREIGN)) >= 200
    assert len(FOREIGN_TEST) >= 100
    assert not set(FOREIGN_TEST) & set(FOREIGN_TUNING)
    assert not set(FOREIGN) & {ticket.text for ticket in tickets(8, 3000)}
