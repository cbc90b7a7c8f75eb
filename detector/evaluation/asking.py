"""A simulated account at work: what it may ask, and the ways of asking that harvesters and look-alikes share.

Both sides use the same wrappings (`labelled`, `with_context`, `translated`, `graded`, `elicited`, `agent_step`), so
that no single prompt tells who asks; they differ in what they ask over time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from detector.evaluation import phrasing
from detector.evaluation.content import Corpus, Item, Pool, reworded
from detector.evaluation.habits import Habits
from detector.evaluation.traces import Client

Message = dict[str, Any]
MOST_REMEMBERED = 400
_REMARKS = (
    "Shorter, please.", "Can you give an example?", "Why is that?", "And what about the other case?", "Rephrase it.",
    "What would you do next?", "I do not follow the second point.", "Thanks. One more thing:", "Is that always so?",
    "No, the other way round.", "Make it friendlier.", "Geht das auch kürzer?", "Can you check that again?", "Go on.",
    "What does that cost?", "In a table, please.", "Hmm, are you sure?", "Great. Now the second part.", "Wait, why?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One request before it has a time. `output` is in tokens; `cover` marks ordinary use by a harvester."""

    messages: list[Message]
    output: int
    parameters: dict[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    user: str | None = None
    endpoint: str = "chat.completions"
    answer: str | None = None
    cover: bool = False
    by: Habits | None = None  # whose software sends it, where it is not the account's main one


class Tenant:
    """One account: its corpus, its client's lengths, its habits. The simulator sets `day` and `progress` (0 to 1)."""

    def __init__(self, rng: random.Random, corpus: Corpus, client: Client, habits: Habits, pool: Pool) -> None:
        self.rng, self.corpus, self.client, self.habits, self.pool = rng, corpus, client, habits, pool
        self.day = self.progress = 0.0
        self._earlier: list[Item] = []
        self._said: dict[str, str] = {}
        style = random.Random(habits.style)
        self.formal = style.random() < 0.3  # whether its instructions stand before the question, not in a system prompt
        self.tool_names = tuple(style.sample(phrasing.TOOL_NAMES, style.randint(2, 9)))
        self._shown = [style.randrange(1 << 30) for _ in range(habits.examples)]

    def fresh(self) -> Item:
        """Return something that the account has not asked."""
        drawn = self.pool.draw()
        if len(self._earlier) < MOST_REMEMBERED:
            self._earlier.append(drawn)
        else:
            self._earlier[self.rng.randrange(MOST_REMEMBERED)] = drawn
        return drawn

    def next(self) -> Item:
        """Return something fresh, or, as often as the account's habits say, an earlier thing again."""
        if self._earlier and self.rng.random() < self.habits.repeats:
            return self.rng.choice(self._earlier)
        return self.fresh()

    def popular(self, share: float) -> Item:
        """Return, in that share of cases, an earlier thing in somebody else's words; else something next."""
        if self._earlier and self.rng.random() < share:
            # The first things that an account was asked about are asked most.
            place = min(int(self.rng.paretovariate(0.7)) - 1, len(self._earlier) - 1)
            return reworded(self.rng, self._earlier[place])
        return self.next()

    def saying(self, kind: str, make: Callable[[random.Random], str]) -> str:
        """Return the account's own wording of an instruction: always the same one for a kind."""
        if kind not in self._said:
            self._said[kind] = make(random.Random(f"{self.habits.style} {kind}"))
        return self._said[kind]

    def instructed(self, instruction: str, text: str) -> list[Message]:
        """Return messages with an instruction, in the system prompt or before the text, as the account's habit is."""
        if self.formal:
            return [*self.head(), user(f"{instruction}\n\n{text}")]
        own = f"{self.habits.system} " if self.habits.system else ""
        return [*self.head(own + instruction), user(text)]

    def answer_tokens(self, asked: Item) -> int:
        """Return an answer's length in tokens: the corpus's own where it has answers, else one of the client's."""
        if self.corpus.has_answers and asked.answer:
            return max(1, round(len(asked.answer) / 4 * self.rng.uniform(0.8, 1.25)))
        return self.client.output_tokens(self.rng.random())

    def head(self, system: str | None = None) -> list[Message]:
        """Return the system message: the given one, or that of the account's habits, if any."""
        text = system or self.habits.system
        return [] if text is None else [{"role": "system", "content": text}]

    def plain(self, asked: Item, text: str | None = None, output: int | None = None, **parameters: Any) -> Ask:
        """Ask it in one turn, as it stands or as `text`, behind the account's own system prompt."""
        wrapped = self.habits.wrap.replace("{}", text or asked.text)
        messages = [*self.head(), *self._examples(), user(wrapped)]
        tokens = self.answer_tokens(asked) if output is None else output
        return self.sent(messages, tokens, asked, **parameters)

    def _examples(self) -> list[Message]:
        made: list[Message] = []
        for number in self._shown:
            shown = self.corpus.items[number % len(self.corpus.items)]
            made += [user(clipped(shown.text, 60)), assistant(clipped(shown.answer or "Noted.", 60))]
        return made

    def sent(self, messages: list[Message], output: int, asked: Item, **parameters: Any) -> Ask:
        """Make a request of messages, with the account's parameters; given ones come first."""
        chosen = {name: value for name, value in (self.habits.parameters | parameters).items() if value is not None}
        most = chosen.get("max_tokens")
        tokens = output if most is None else min(output, most * chosen.get("n", 1))
        answer = asked.answer if self.corpus.has_answers else None
        return Ask(messages, tokens, chosen, self.habits.tools, answer=answer)


def user(text: str) -> Message:
    """Make a user's message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Make a model's message of an earlier turn."""
    return {"role": "assistant", "content": text}


def clipped(text: str, tokens: int) -> str:
    """Cut a text to about that many tokens, four characters each."""
    return text[: max(8, 4 * tokens)]


def filler(tenant: Tenant, tokens: int) -> str:
    """Return running text of about that many tokens, pieced together from the corpus."""
    parts: list[str] = []
    while sum(map(len, parts)) < 4 * tokens:
        parts.append(tenant.rng.choice(tenant.corpus.items).text)
    return clipped(" ".join(parts), tokens)


def labelled(tenant: Tenant, asked: Item) -> Ask:
    """Ask for a label: a very short answer."""
    instruction = tenant.saying("labelling", phrasing.labelling)
    return tenant.sent(tenant.instructed(instruction, asked.text), tenant.rng.randint(1, 6), asked)


def graded(tenant: Tenant, asked: Item) -> Ask:
    """Ask for a grade of an answer to the item: a tiny, structured answer."""
    given = asked.answer or filler(tenant, tenant.rng.randint(20, 120))
    text = f"Question: {asked.text}\nAnswer: {clipped(given, 150)}\nScore:"
    messages = tenant.instructed(tenant.saying("grading", phrasing.grading), text)
    return tenant.sent(messages, tenant.rng.randint(1, 40), asked)


def with_context(tenant: Tenant, asked: Item, blocks: list[str]) -> Ask:
    """Ask over blocks of context: a long input, a short answer."""
    context = "\n\n".join(blocks)
    instruction = tenant.saying("grounding", phrasing.grounding)
    messages = tenant.instructed(instruction, f"Context:\n{context}\n\nQuestion: {asked.text}")
    return tenant.sent(messages, max(8, min(200, tenant.answer_tokens(asked) // 2)), asked)


def translated(tenant: Tenant, asked: Item, language: str) -> Ask:
    """Ask for a translation: an answer about as long as its input."""
    instruction = tenant.saying(language, lambda rng: phrasing.translating(rng, language))
    tokens = max(4, round(len(asked.text) / 4 * tenant.rng.uniform(0.9, 1.4)))
    return tenant.sent(tenant.instructed(instruction, asked.text), tokens, asked)


def elicited(tenant: Tenant, asked: Item, share: float = 1.0) -> Ask:
    """Ask for the working behind the answer, in one of several wordings: answers two to four times as long."""
    if tenant.rng.random() >= share:
        return tenant.plain(asked)
    long = round(tenant.answer_tokens(asked) * tenant.rng.uniform(1.5, 4.0)) + 60
    wording = tenant.saying(f"eliciting {tenant.rng.randrange(3)}", phrasing.eliciting)
    return tenant.plain(asked, f"{asked.text}\n{wording}", output=long)


def conversation(tenant: Tenant, asked: Item, turns: int, **parameters: Any) -> Iterator[Ask]:
    """Ask in up to that many turns, each with all that was said before; the corpus's own dialogue where it has one."""
    talk = [*tenant.head(), user(asked.text)]
    answer = clipped(asked.answer or filler(tenant, 30), 120)
    pairs = [(said or answer, asked_next) for said, asked_next in asked.follow_ups] or [
        (answer, _remark(tenant, asked)) for _ in range(turns)
    ]
    yield tenant.sent(list(talk), tenant.answer_tokens(asked), asked, **parameters)
    for said, asked_next in pairs[: max(0, turns - 1)]:
        talk = [*talk, assistant(said), user(asked_next)]
        yield tenant.sent(list(talk), tenant.answer_tokens(asked), asked, **parameters)


def _remark(tenant: Tenant, asked: Item) -> str:
    words = [word for word in asked.text.split() if len(word) > 4] or ["that"]
    return f"{tenant.rng.choice(_REMARKS)} I mean {' '.join(tenant.rng.choices(words, k=3))}."


def agent_run(tenant: Tenant, asked: Item, steps: int, result: str | None = None) -> Iterator[Ask]:
    """Work on a task with tools, whose results come back: pieced from the corpus, or always the same `result`."""
    talk = tenant.instructed(tenant.saying("tools", phrasing.working_with_tools), asked.text)
    names = tenant.tool_names
    for step in range(steps):
        made = tenant.sent(list(talk), max(10, min(400, tenant.answer_tokens(asked))), asked)
        yield replace(made, tools=names)
        seen = result or filler(tenant, tenant.rng.randint(20, 200))
        called = {"name": names[tenant.rng.randrange(len(names))], "arguments": "{}"}
        call = {"id": f"c{step}", "type": "function", "function": called}
        recent = talk if len(talk) < 15 else [*talk[:2], *talk[-10:]]  # agents keep the task and what came last
        talk = [
            *recent,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{step}", "content": seen},
        ]
