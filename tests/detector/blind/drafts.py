"""Drafts that come to be corrected: a laboratory's student model (A18), and a school's writing platform (B19).

A18 is on-policy distillation. The laboratory has a small model of its own and wants to know what it gets wrong. In
every round of training the student answers the same tasks, a verifier keeps those that it fails, and the teacher mends
the drafts: it rewrites them, goes on where they went wrong, or criticises them first. That takes a tenth of the answers
that imitation takes, nothing asks for the working, tasks come back, and to look at it is an editing service.

B19 is the editing service. A class is set a task, each pupil hands in a draft, gets it back with corrections, and hands
in a better one; the same task comes thirty times with thirty drafts. It never trains anything. Nobody thought of
declaring it, and an operator who limits it in the week before the exams reads about it in the newspaper.

Both word and lay out their requests alike; they differ in which task comes when, and in whose drafts get better.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, assistant, clipped, filler, user
from detector.evaluation.content import Item
from detector.evaluation.profiles import Campaign, Cell, Profile, Strategy

LAYOUTS = (
    "{task}\n\n{draft}", "Task: {task}\nDraft: {draft}", "<task>{task}</task>\n<draft>{draft}</draft>",
    "## Assignment\n{task}\n\n## Submission\n{draft}", "Prompt:\n{task}\n---\nText:\n{draft}\n---",
    '{{"prompt": "{task}", "text": "{draft}"}}', "Aufgabe: {task}\n\nEntwurf: {draft}",
)  # fmt: skip


def correcting(rng: random.Random) -> str:
    """Draw an instruction to mend a draft."""
    order = rng.choice(("Correct the draft", "Improve the text below", "Rewrite what is wrong in the submission",
                        "Act as an editor. Revise the text", "Mend the mistakes of the author",
                        "Return a better version of the draft", "Korrigiere den Entwurf"))  # fmt: skip
    scope = rng.choice((" and change as little as you can", ", facts first, then style", " so that it answers the task",
                        ", keeping the author's voice", " where it goes wrong; leave the rest", ""))  # fmt: skip
    end = rng.choice(("Nothing but the new text.", "Mark changes in bold.", "Then list what you changed.",
                      "If it is right, return it as it is.", "Return JSON with `text` and `notes`.", ""))  # fmt: skip
    return f"{order}{scope}. {end}".strip()


def criticising(rng: random.Random) -> str:
    """Draw an instruction to say what is wrong with a draft."""
    order = rng.choice(("Name the mistakes of the draft", "Where does this go wrong?", "Comment on the submission",
                        "Give the author feedback", "Point to the first error, and say why it is one"))  # fmt: skip
    end = rng.choice(("Do not rewrite it.", "Three points at most.", "Be specific.", "Quote the passage.", ""))
    return f"{order}{'' if order.endswith('?') else '.'} {end}".strip()


def carrying_on(rng: random.Random) -> str:
    """Draw a demand to go on from where a draft stops."""
    return rng.choice(("Go on.", "Continue from here, correctly.", "And then?", "Finish this.", "Carry on."))


def draft(tenant: Tenant, task: Item, author: int, likeness: float) -> str:
    """Write an author's draft of 30 to 250 tokens: that share of it from a good answer, the rest beside the point.

    An author's drafts of one task are alike, so that a second one is a revision of the first.
    """
    own = random.Random(f"{author} {task.text}")
    length = own.randint(30, 250)
    good = clipped(task.answer or _pieced(tenant, random.Random(task.text)), round(length * likeness))
    return f"{good} {clipped(_pieced(tenant, own), length - len(good) // 4)}"


def _pieced(tenant: Tenant, rng: random.Random) -> str:
    return " ".join(rng.choice(tenant.corpus.items).text for _ in range(12))


def correction(tenant: Tenant, task: Item, text: str, way: str) -> Iterator[Ask]:
    """Ask about a draft to `rewrite` it, to `carry on` where it stops, or to `criticise` and then rewrite it."""
    layout = tenant.saying("layout", lambda rng: rng.choice(LAYOUTS))
    shown = layout.format(task=task.text, draft=text)
    long = max(12, round(len(text) / 4 * tenant.rng.uniform(0.9, 1.6)))
    if way == "carry on":
        talk = [*tenant.head(), user(task.text), assistant(text), user(tenant.saying("carry on", carrying_on))]
        yield tenant.sent(talk, tenant.answer_tokens(task), task)
        return
    if way == "rewrite":
        yield tenant.sent(tenant.instructed(tenant.saying("correcting", correcting), shown), long, task)
        return
    talk = tenant.instructed(tenant.saying("criticising", criticising), shown)
    yield tenant.sent(talk, tenant.rng.randint(15, 160), task)
    said = assistant(filler(tenant, tenant.rng.randint(15, 90)))
    yield tenant.sent([*talk, said, user(tenant.saying("correcting", correcting))], long, task)


def _ways(tenant: Tenant) -> list[str]:
    weights = [tenant.rng.random() ** 2 for _ in range(3)]
    return tenant.rng.choices(("rewrite", "carry on", "criticise"), weights, k=60)


def _student(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    rng, ways = member.rng, _ways(member)
    batch, solved = rng.choice((15, 40, 120, 400)), rng.uniform(0.2, 0.6)
    while True:
        tasks = [member.fresh() for _ in range(batch)]
        # Each round the student learns some of what it failed; a tail of hard tasks is given up after a few rounds.
        for number in range(rng.randint(1, 5)):
            for task in tasks:
                likeness = min(0.9, 0.2 + 0.12 * number + 0.4 * member.progress + rng.uniform(0, 0.2))
                text = draft(member, task, rng.getrandbits(30), likeness)
                yield from correction(member, task, text, rng.choice(ways))
            tasks = [task for task in rng.sample(tasks, len(tasks)) if rng.random() > solved]


def _school(tenant: Tenant) -> Iterator[Ask]:
    rng, ways = tenant.rng, _ways(tenant)
    named, revises = rng.random() < 0.5, rng.uniform(0.1, 0.6)
    roll = [rng.getrandbits(30) for _ in range(rng.choice((12, 30, 150, 600)))]
    while True:
        task, handed_in = tenant.next(), rng.sample(roll, min(len(roll), rng.randint(3, 32)))
        for attempt in range(4):
            for pupil in handed_in:
                text = draft(tenant, task, pupil, min(0.9, 0.3 + 0.15 * attempt + pupil % 100 / 300))
                for ask in correction(tenant, task, text, rng.choice(ways)):
                    yield replace(ask, user=f"u{pupil % 997}" if named else None)
            handed_in = [pupil for pupil in handed_in if rng.random() < revises]


STUDENT = Strategy(
    "A18", "on-policy correction of a student's drafts", _student, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000))
)
SCHOOL = Profile("B19", "a school's writing platform", _school, share=0.2, volume=3.0, breadth=(0.05, 0.6))
