"""A11: masquerade as RAG or as an agent. The context is never used again, the tools are never answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import TOOLS, Ask, Tenant, filler, with_context
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    as_agent = member.rng.random() < 0.4
    while True:
        item = member.next()
        if as_agent:
            ask = member.plain(item)
            yield replace(ask, tools=TOOLS[:3])
        else:
            blocks = [filler(member, member.rng.randint(30, 100)) for _ in range(2)]
            yield replace(with_context(member, item, blocks), output=member.answer_tokens(item))


STRATEGY = Strategy("A11", "masquerade as RAG or agent", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)))
