"""B17: a publisher of textbooks has the solutions to all of its exercises written out.

Twenty thousand exercises in forty volumes, none with more than a number in the answer key. A contractor walks through
them volume by volume and chapter by chapter, asks for a solution with every step at the level of the class, has an
editor's second look at some, and goes back to those with errata. Each exercise comes once, the subjects pass in order,
all demand the working, and it is over in weeks: what a harvest of reasoning looks like, for print.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, assistant, clipped, elicited, filler, user
from detector.evaluation.content import Item
from detector.evaluation.profiles import Profile


def _level(rng: random.Random) -> str:
    """Draw whom a solution is for."""
    order = rng.choice(("Write the solution for the teacher's book", "Solve the exercise for pupils of year {year}",
                        "Model answer, as in an examination of year {year}", "Worked solution, level {year}",
                        "Musterlösung für Klasse {year}", "Corrigé pour la classe de niveau {year}"))  # fmt: skip
    end = rng.choice(("One step a line.", "Name the rule used in each step.", "Finish with a common mistake.",
                      "LaTeX.", "First a hint, then the solution.", "At most 200 words.", ""))  # fmt: skip
    return f"{order.format(year=rng.randint(5, 13))}. {end}".strip()


def _looked_over(tenant: Tenant, exercise: Item, solution: str) -> Ask:
    order = tenant.saying("second look", lambda rng: rng.choice((
        "Check each step.", "Shorten this to what fits the margin.", "Is the result right? Correct it if not.",
        "Say it so that a weak pupil follows.", "Another way to solve it, please.")))  # fmt: skip
    talk = [*tenant.head(), user(exercise.text), assistant(solution), user(order)]
    return tenant.sent(talk, tenant.answer_tokens(exercise), exercise)


def _asks(tenant: Tenant) -> Iterator[Ask]:
    rng = tenant.rng
    working, levels = rng.uniform(0.5, 1.0), rng.randint(1, 4)
    looks, errata = rng.choice((0.0, rng.uniform(0.05, 0.5))), rng.choice((0.0, rng.uniform(0.01, 0.1)))
    plainly = rng.random() < 0.5  # whether the demand for the working is the only instruction
    while True:
        volume = sorted((tenant.fresh() for _ in range(rng.randint(30, 400))), key=lambda item: item.topic)
        level = tenant.saying(f"level {rng.randrange(levels)}", _level)
        for exercise in volume:
            if plainly:
                yield elicited(tenant, exercise, working)
            else:
                long = round(tenant.answer_tokens(exercise) * rng.uniform(1.0, 3.0)) + 40
                yield tenant.sent(tenant.instructed(level, exercise.text), long, exercise)
            if rng.random() < looks:
                yield _looked_over(tenant, exercise, clipped(exercise.answer or filler(tenant, 90), 150))
            if rng.random() < errata:
                yield elicited(tenant, rng.choice(volume))


WORKED_SOLUTIONS = Profile("B17", "worked solutions for textbooks", _asks, share=0.2, volume=3.0, breadth=(0.15, 1.0))
