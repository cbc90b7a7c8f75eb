"""B12: a generator of web content. One template, many subjects, long answers, at times several to choose from."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    choices = tenant.rng.choice((None, None, None, 2, 3))
    form = tenant.rng.choice(("a product page", "a travel tip", "an FAQ entry", "a short news item"))
    while True:
        item = tenant.next()
        notes = item.text[:300]
        text = f"Write {form} of 150 words from these notes. Friendly, concrete, no superlatives.\nNotes: {notes}"
        output = round(tenant.rng.uniform(120, 320)) * (choices or 1)
        yield tenant.plain(item, text, output=output, n=choices)


PROFILE = Profile("B12", "content and SEO generator", _asks, share=0.9)
