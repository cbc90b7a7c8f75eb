"""B12: a generator of web content. A few templates, ever new subjects, long answers, some with choices."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.content import varied
from detector.evaluation.phrasing import writing_brief
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    rng = tenant.rng
    choices, pieces = rng.choice((None, None, None, 2, 3, 4)), rng.randint(1, 6)
    fresh, revised, longest = rng.choice((0.0, 0.5, 1.0)), rng.choice((0.0, 0.2)), rng.randint(150, 1_200)
    while True:
        item = tenant.next()
        item = varied(rng, item) if rng.random() < fresh else item
        text = f"{tenant.saying(f'brief {rng.randrange(pieces)}', writing_brief)}\nNotes: {item.text[:600]}"
        output = rng.randint(80, longest) * (choices or 1)
        yield tenant.plain(item, text, output=output, n=choices)
        if rng.random() < revised:
            yield tenant.plain(item, f"{text}\nThe last one was too long; make it half as long.", output=output // 2)


PROFILE = Profile("B12", "content and SEO generator", _asks, share=1.2, volume=3.0, breadth=(0.2, 1.0))
