"""Who is linked among eighty ordinary accounts, and who is not: classes and popular templates link nobody."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from detector import columns, sketch
from detector.links import sets
from detector.links.channels import CHANNELS
from detector.links.linker import AccountLinks
from detector.links.profile import Registered
from detector.sets import Edge, LinkedSet, reason
from tests.detector import histories
from tests.detector.histories import Record
from tests.detector.words import DOMAINS

DAYS = 6
KINDS = (
    histories.chat_app, histories.rag, histories.classification, histories.ordinary_use, histories.heavy_chat,
    histories.translation, histories.content_generator, histories.support_bot,
)  # fmt: skip
Accounts = dict[str, Registered]


def client(number: int) -> dict[str, Any]:
    """Make client software of one of thirty kinds, and a network of its own."""
    return {"user_agent": f"library/{number % 30}", "network": f"10.1.{number % 250}.0/24", "fingerprint": "a"}


def named(records: list[Record], shown: dict[str, Any], **more: Any) -> list[Record]:
    """Give records their client."""
    return [{**record, "client": shown, **more} for record in records]


def ordinary(rng: random.Random, count: int = 80) -> tuple[list[Record], Accounts]:
    """Make accounts that have nothing to do with each other."""
    rows: list[Record] = []
    accounts: Accounts = {}
    for number in range(count):
        name = f"ordinary-{number}"
        times = histories.history(rng, rng.randint(3, 9), rng.randint(3, DAYS))
        rows += named(own(KINDS[number % len(KINDS)](rng, name, times), number), client(number))
        created = histories.START - timedelta(days=rng.uniform(0, 300))
        accounts[name] = Registered(created, f"pay-{number}", f"10.1.{number}.0/24")
    return rows, accounts


def own(records: list[Record], number: int) -> list[Record]:
    """Make an application of an account's own out of a kind: its system prompt, and what its questions are about."""
    about = list(DOMAINS.values())[number % len(DOMAINS)][number % 5]
    made = []
    for record in records:
        head = histories.system(f"Application {number}: keep to the house rules of number {number}.")
        talk = [{**each, "content": f"{each['content']} About {about}, house {number}."} for each in record["messages"]]
        made.append({**record, "messages": [head, *talk]})
    return made


def asks(rng: random.Random, name: str, prompts: Sequence[str], start: datetime, shown: dict[str, Any]) -> list[Record]:
    """Make an account that asks these, one turn each, thirty a day."""
    times = sorted(start + timedelta(days=rng.uniform(0, len(prompts) / 30)) for _ in prompts)
    parameters = {"temperature": 0.7, "max_tokens": 700}
    made = [
        histories.record(name, number, time, [histories.user(prompt)], rng.randint(150, 500), parameters)
        for number, (time, prompt) in enumerate(zip(times, prompts, strict=True))
    ]
    return named(made, shown)


def hydra(rng: random.Random, members: int = 20) -> tuple[list[Record], Accounts]:
    """Make accounts that split one pool of prompts, no prompt asked twice, by one program from many networks."""
    pool = histories.instructions(rng, members * 70)
    start = histories.START + timedelta(days=2)
    rows: list[Record] = []
    accounts: Accounts = {}
    for number in range(members):
        name = f"hydra-{number}"
        shown = {"user_agent": "collector/3", "network": f"10.7.{number // 2}.0/24", "fingerprint": "c"}
        rows += asks(rng, name, pool[number::members], start, shown)
        accounts[name] = Registered(start - timedelta(days=rng.uniform(0, 2)), f"card-{number // 4}", "10.7.1.0/24")
    return rows, accounts


def class_room(rng: random.Random, members: int = 20) -> tuple[list[Record], Accounts]:
    """Make a class: one network, one sign-up day, one library; each student about a subject of their own."""
    rows: list[Record] = []
    accounts: Accounts = {}
    subjects = list(DOMAINS.values())
    for number in range(members):
        name = f"student-{number}"
        mine = subjects[number % len(subjects)]
        prompts = [
            f"{rng.choice(('Explain', 'Compare', 'Why like', 'Help me with'))} {rng.choice(mine)}, part {part}."
            for part in range(rng.randint(8, 40))
        ]
        start = histories.START + timedelta(days=rng.uniform(0, 4))
        shown = {"user_agent": "notebook/1", "network": "10.9.9.0/24", "fingerprint": "n"}
        rows += asks(rng, name, prompts, start, shown)
        accounts[name] = Registered(histories.START - timedelta(days=1), f"student-{number}", "10.9.9.0/24")
    return rows, accounts


def shop(rng: random.Random, company: str, members: int, about: Sequence[str]) -> tuple[list[Record], Accounts]:
    """Make a company whose accounts use a template that everybody knows, about its own goods."""
    head = histories.system("You write product texts for a shop. Friendly, concrete, no superlatives.")
    rows: list[Record] = []
    accounts: Accounts = {}
    for number in range(members):
        name = f"{company}-{number}"
        made = []
        for part, time in enumerate(histories.history(rng, 6, rng.randint(3, DAYS))):
            text = f"Write a page of 100 words about {rng.choice(about)} number {rng.randrange(10_000)}."
            made.append(histories.record(name, part, time, [head, histories.user(text)], rng.randint(100, 200)))
        rows += named(made, client(100 + hash_of(company) + number))
        accounts[name] = Registered(histories.START - timedelta(days=20 + 9 * number), company, f"10.4.{number}.0/24")
    return rows, accounts


def hash_of(name: str) -> int:
    """Return a small number that stands for a name."""
    return sum(map(ord, name)) % 100


def found(*parts: tuple[list[Record], Accounts], alerting: bool = False) -> list[set[str]]:
    """Link the accounts and return the names in each set; `alerting`: of those that give cause for an alert."""
    rows = columns.read(histories.to_table([record for records, _ in parts for record in records]))
    accounts = {name: known for _, registered in parts for name, known in registered.items()}
    links = AccountLinks(lambda: accounts)
    states = sketch.empty(len(rows.names))
    days = (rows.time // sketch.DAY_S).astype(int)
    for day in np.unique(days):
        part = rows.take(days == day)
        sketch.update(states, part, part.account, int(day))
        links.see(part, part.account)
    told = [each for each in links.sets(states, int(days.max())) if each.excess >= 0 or not alerting]
    return [{rows.names[place] for place in each.members} for each in told]


@pytest.fixture(scope="module")
def village() -> tuple[list[Record], Accounts]:
    """Return the ordinary accounts."""
    return ordinary(random.Random(5))


def test_a_hydra_whose_shards_share_no_prompt_is_one_set(village: tuple[list[Record], Accounts]) -> None:
    """Twenty accounts, one pool: nearly all of them in one set, and nobody else in it."""
    linked = max(found(village, hydra(random.Random(8))), key=lambda each: sum(name[:5] == "hydra" for name in each))
    members = {name for name in linked if name.startswith("hydra")}
    assert len(members) >= 18
    assert len(members) / len(linked) >= 0.95


def test_a_class_that_shares_a_network_and_asks_different_things_gives_no_cause_for_an_alert(
    village: tuple[list[Record], Accounts],
) -> None:
    """One network, one sign-up day and one library are what any class has."""
    assert not [
        each
        for each in found(village, class_room(random.Random(9)), alerting=True)
        if any(name.startswith("student") for name in each)
    ]


def test_two_companies_with_one_popular_template_are_not_one_set(village: tuple[list[Record], Accounts]) -> None:
    """A template makes those who use it alike; what they use it for keeps them apart."""
    rng = random.Random(10)
    goods = list(DOMAINS.values())
    linked = found(village, shop(rng, "north", 6, goods[0]), shop(rng, "south", 6, goods[1]))
    assert not [each for each in linked if {name[:5] for name in each} >= {"north", "south"}]


def test_ordinary_accounts_link_hardly_anybody(village: tuple[list[Record], Accounts]) -> None:
    """Of eighty accounts that have nothing to do with each other, at most a few are taken for a set."""
    assert sum(map(len, found(village))) <= 8


def test_without_contents_or_client_the_channels_that_are_left_link(village: tuple[list[Record], Accounts]) -> None:
    """Missing values are no evidence: links are looked for with what there is, and nothing fails."""
    rows, accounts = hydra(random.Random(8))
    bare = [{name: value for name, value in row.items() if name not in ("client", "messages")} for row in rows]
    assert isinstance(found(village, (bare, {})), list)
    assert isinstance(found((bare[:40], accounts)), list)


def test_one_channel_never_links_and_neither_does_ordinary_company() -> None:
    """Template and company together are one office with one program; one more channel than these is needed."""
    names = list(CHANNELS)

    def saying(*channels: str) -> Any:
        return sets.independent(np.array([[name in channels for name in names]]))[0]

    assert not any(saying(name) for name in names)
    assert not saying("template", "company")
    assert saying("template", "content")
    assert saying("company", "time")


def test_links_survive_a_restart_and_an_erasure() -> None:
    """What was known of accounts is there after a restart; of those that are erased nothing is left."""
    rows = columns.read(histories.to_table(hydra(random.Random(3), members=4)[0]))
    links = AccountLinks()
    links.see(rows, rows.account)
    again = AccountLinks()
    again.restore(links.to_bytes())
    np.testing.assert_array_equal(again._links[:4], links._links[:4])
    again.keep(np.array([2, 3]))
    np.testing.assert_array_equal(again._links[:2], links._links[2:4])
    assert set(again._places) == {rows.names[2], rows.names[3]}


def test_a_set_says_in_words_who_acts_together_and_how() -> None:
    """A person reads how many accounts there are and what is alike."""
    edge = Edge(0, 1, ("content", "company"), 3.0)
    told = reason(LinkedSet(np.arange(3), 1.0, (edge, edge)))
    assert told["value"] == 2
    assert "2 other accounts" in told["text"]
    assert "what is asked" in told["text"]
