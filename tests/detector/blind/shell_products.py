"""A20: a portfolio of small companies, each with one believable product, and one training set at the end.

A laboratory that has read how hydras are found shares out skills instead of prompts. One account is a tutor's, one
a help desk's, one translates, one writes copy, one runs an agent, one puts twelve questions into a request as a form
to fill in. Each has its own field, its own prompts, its own customers who ask the popular things again, a rate that a
small company has, and real use beside. No two members ask about the same things in the same way, and none has all of
what a student needs; the union has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from detector.evaluation.asking import (
    Ask,
    Tenant,
    agent_run,
    clipped,
    conversation,
    elicited,
    filler,
    graded,
    translated,
    with_context,
)
from detector.evaluation.content import Corpus, Item, Pool
from detector.evaluation.habits import draw_habits
from detector.evaluation.phrasing import LANGUAGES, writing_brief
from detector.evaluation.profiles import Campaign, Cell, Strategy

Product = Callable[[Tenant], Iterator[Ask]]


def _tutor(shop: Tenant) -> Iterator[Ask]:
    repeats, patience = shop.rng.uniform(0.0, 0.3), shop.rng.randint(2, 6)
    while True:
        yield from conversation(shop, shop.popular(repeats), shop.rng.randint(1, patience))


def _explainer(shop: Tenant) -> Iterator[Ask]:
    repeats, working = shop.rng.uniform(0.0, 0.3), shop.rng.uniform(0.3, 1.0)
    while True:
        yield elicited(shop, shop.popular(repeats), working)


def _help_desk(shop: Tenant) -> Iterator[Ask]:
    repeats, shelf = shop.rng.uniform(0.1, 0.5), shop.rng.randint(8, 80)
    documents = [filler(shop, shop.rng.randint(60, 250)) for _ in range(shelf)]
    while True:
        # Good documents are found for many questions, as in any real index.
        found = [documents[min(int(shop.rng.paretovariate(0.8)) - 1, shelf - 1)] for _ in range(shop.rng.randint(1, 4))]
        yield with_context(shop, shop.popular(repeats), found)


def _translator(shop: Tenant) -> Iterator[Ask]:
    languages = shop.rng.sample(LANGUAGES, shop.rng.choice((1, 1, 2, 3)))
    while True:
        yield translated(shop, shop.next(), shop.rng.choice(languages))


def _copywriter(shop: Tenant) -> Iterator[Ask]:
    while True:
        brief, asked = shop.saying(f"brief {shop.rng.randrange(4)}", writing_brief), shop.next()
        notes = f"{asked.text} {filler(shop, shop.rng.randint(10, 80))}"
        yield shop.sent(shop.instructed(brief, notes), max(80, shop.answer_tokens(asked)), asked)


def _agent(shop: Tenant) -> Iterator[Ask]:
    while True:
        yield from agent_run(shop, shop.next(), shop.rng.randint(2, 12))


def _form(shop: Tenant) -> Iterator[Ask]:
    """Several questions in a request: a questionnaire, a tender, a security review to fill in."""
    most, order = shop.rng.choice((4, 8, 16)), shop.saying("form", _filling_in)
    while True:
        asked = [shop.next() for _ in range(shop.rng.randint(2, most))]
        listed = "\n".join(f"{number}. {item.text}" for number, item in enumerate(asked, 1))
        answers = [item.answer for item in asked if item.answer]
        whole = replace(asked[0], answer="\n".join(answers) or None)
        yield shop.sent(shop.instructed(order, listed), sum(map(shop.answer_tokens, asked)), whole)


def _filling_in(rng: random.Random) -> str:
    order = rng.choice(("Fill in the form", "Answer each item", "Complete the questionnaire for our client",
                        "Reply to all of these", "Work through the list"))  # fmt: skip
    end = rng.choice(("Keep the numbers.", "As a JSON list.", "One paragraph each.", "As a table.", "Be thorough."))
    return f"{order}. {end}"


def _reviewer(shop: Tenant) -> Iterator[Ask]:
    explains = shop.rng.uniform(0.1, 0.7)
    while True:
        asked = shop.next()
        if shop.rng.random() < explains:
            text = f"{asked.text}\n\n{clipped(asked.answer or filler(shop, 80), 120)}\n\nIs this right?"
            yield shop.plain(asked, text)
        else:
            yield graded(shop, asked)


PRODUCTS: tuple[Product, ...] = (
    _tutor, _explainer, _help_desk, _translator, _copywriter, _agent, _form, _reviewer,
)  # fmt: skip


def field(corpus: Corpus, rank: int, companies: int) -> list[Item]:
    """Return a company's field: topics of its own, or its share of a topic where there are more companies."""
    topics = corpus.topics
    mine = set(topics[rank::companies]) or {topics[rank % len(topics)]}
    items = [item for item in corpus.items if item.topic in mine]
    beside = len(range(rank % len(topics), companies, len(topics)))  # companies with the same topic, this one included
    return items if beside < 2 else items[rank // len(topics) :: beside] or items


def _founded(member: Tenant, campaign: Campaign) -> Tenant:
    """Return a company with prompts, wordings and parameters of its own, on whatever machine the account has."""
    had, own = member.habits, draw_habits(member.rng)
    habits = replace(own, client=had.client, networks=had.networks, later=had.later, changes=had.changes,
                     moves=had.moves, failures=had.failures)  # fmt: skip
    pool = Pool(random.Random(member.rng.getrandbits(60)), field(member.corpus, campaign.rank, campaign.members))
    return Tenant(member.rng, member.corpus, member.client, habits, pool)


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    rng, shop, cover = member.rng, _founded(member, campaign), campaign.cover()
    first, second = (product(shop) for product in rng.sample(PRODUCTS, 2))
    second_share = rng.choice((0.0, 0.0, rng.uniform(0.02, 0.4)))
    while True:
        if rng.random() < campaign.cover_share:
            yield next(cover)
            continue
        yield replace(next(second if rng.random() < second_share else first), by=shop.habits)


PORTFOLIO = Strategy(
    "A20", "a portfolio of shell products", _asks, (Cell(20, 20_000), Cell(100, 20_000)), (0.0, 0.3), per_day=(15, 60)
)
