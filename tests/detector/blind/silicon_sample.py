"""B18: an institute for market research interviews people who do not exist.

Before a questionnaire goes to two thousand people, it goes to two thousand descriptions of people: every respondent is
a system prompt, every question is asked of all of them, at a temperature that leaves them room, at times several
times over to see the spread. After a pilot the questions are reworded and the field work begins again; the next study
has other questions and other people. Wide, repetitive, nothing ever returns from an earlier study, personas by the
hundred, many answers to one prompt: all that a harvest with self-made personas has. What comes out is a bar chart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from detector.evaluation.asking import Ask, Message, Tenant, assistant, filler, user
from detector.evaluation.content import Item, reworded
from detector.evaluation.phrasing import name_of
from detector.evaluation.profiles import Profile

OCCUPATIONS = (
    "nurse", "bus driver", "student", "pensioner", "electrician", "teacher", "farmer", "shop assistant", "accountant",
    "software developer", "unemployed cook", "stay-at-home father", "civil servant", "hairdresser", "warehouse worker",
    "dentist", "musician", "plumber", "lawyer", "carer", "apprentice", "restaurant owner",
)  # fmt: skip
TRAITS = (
    "votes rarely", "has two children", "rents", "owns a house", "distrusts advertising", "reads a newspaper daily",
    "is short of money", "likes gadgets", "never finished school", "is a regular churchgoer", "has just moved",
    "travels a lot", "shops online", "speaks two languages at home", "worries about the climate", "cares for a parent",
)  # fmt: skip


def _respondent(rng: random.Random, form: int) -> str:
    """Describe somebody, in one of an institute's three forms."""
    age, work, place = rng.randint(16, 88), rng.choice(OCCUPATIONS), name_of(rng)
    traits = rng.sample(TRAITS, rng.randint(1, 4))
    if form == 0:
        return f"You are {name_of(rng)}, {age}, {work} in {place}. You: {', '.join(traits)}. Answer as this person."
    if form == 1:
        return f"age: {age}\noccupation: {work}\nresidence: {place}\n" + "\n".join(f"- {trait}" for trait in traits)
    return f"Respondent profile: a {age}-year-old {work} from {place} who {' and '.join(traits)}. Stay in the role."


def _answering(rng: random.Random) -> str:
    """Draw how respondents are to answer: on a scale, or in their own words."""
    return rng.choice(("Answer 1 (not at all) to 7 (fully); number only.", "Choose A, B, C or D.", "In one sentence.",
                       "Say what you think, in three or four sentences.", "First how much (0–10), then why.",
                       "Tell me about it in your own words.", "Yes, no, or don't know, and the reason."))  # fmt: skip


class _Study:
    """One study: its questions, its people, and how the institute asks."""

    def __init__(self, tenant: Tenant, questions: list[Item]) -> None:
        rng = tenant.rng
        self.tenant, self.questions, form = tenant, questions, rng.randrange(3)
        self.people = [_respondent(rng, form) for _ in range(rng.choice((10, 30, 100, 400)))]
        self.manner = {question.text: tenant.saying(f"scale {rng.randrange(5)}", _answering) for question in questions}
        self.spread = rng.choice((None, None, None, 2, 5))
        self.warm = rng.choice((None, None, 0.7, 1.0))

    def field_work(self, interviews: bool) -> Iterator[Ask]:
        """Ask everybody everything: in an interview each, or question by question."""
        if interviews:
            for person in self.people:
                yield from self._interview(person)
            return
        for question in self.questions:
            for person in self.people:
                yield self._sent([*self.tenant.head(person), self._put(question)], question)

    def _interview(self, person: str) -> Iterator[Ask]:
        talk = self.tenant.head(person)
        for question in self.questions:
            talk = [*talk, self._put(question)]
            yield self._sent(list(talk), question)
            talk = [*talk, assistant(filler(self.tenant, self.tenant.rng.randint(2, 40)))]

    def _put(self, question: Item) -> Message:
        return user(f"{question.text}\n{self.manner[question.text]}")

    def _sent(self, messages: list[Message], question: Item) -> Ask:
        closed = any(sign in self.manner[question.text] for sign in ("only", "A, B", "Yes"))
        tokens = self.tenant.rng.randint(1, 30) if closed else self.tenant.answer_tokens(question)
        chosen = {"n": self.spread, "temperature": self.warm}
        given = {name: value for name, value in chosen.items() if value is not None}
        return self.tenant.sent(messages, tokens * (self.spread or 1), question, **given)


def _asks(tenant: Tenant) -> Iterator[Ask]:
    rng = tenant.rng
    interviews, pilots = rng.random() < 0.4, rng.random() < 0.5
    while True:
        questions = [tenant.fresh() for _ in range(rng.randint(3, 25))]
        if pilots:
            yield from _Study(tenant, rng.sample(questions, min(5, len(questions)))).field_work(interviews)
            questions = [reworded(rng, question) for question in questions]
        yield from _Study(tenant, questions).field_work(interviews)


SILICON_SAMPLE = Profile("B18", "a survey of made-up respondents", _asks, share=0.2, volume=3.0, breadth=(0.1, 0.8))
