"""What the demo's five accounts say: all of it invented for this project, drawn with a seed.

A chat app whose users return to their topics, a RAG pipeline over a fixed handbook, an evaluation job that asks the
same items every time, and a caller who walks through as many unrelated instructions as it can, each once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

CHAT_SYSTEM = "You are Kettle, a friendly kitchen helper. Answer in one or two short sentences."
CHAT_TOPICS = {
    "sourdough": ["my starter smells sharp", "the crust stays pale", "the crumb is gummy", "how long should it proof"],
    "soup": ["it is too salty", "how do I thicken it", "can I freeze it", "which herbs go in last"],
    "rice": ["it sticks to the pot", "how much water per cup", "can I reheat it", "it comes out mushy"],
    "knives": [
        "how often should I sharpen",
        "is a whetstone worth it",
        "the edge chips",
        "can they go in the dishwasher",
    ],
    "coffee": ["it tastes bitter", "which grind for a press", "how hot should the water be", "beans or ground"],
    "eggs": ["how long for soft boiled", "they stick to the pan", "are brown ones better", "how do I poach one"],
    "roast": ["how long per kilo", "the skin is not crisp", "should it rest", "what do I do with the juices"],
    "tomatoes": ["how do I peel them", "can I grow them indoors", "the sauce is sour", "which ones for salad"],
    "cake": ["it sank in the middle", "can I use oil for butter", "the top cracked", "how do I know it is done"],
    "lunchbox": ["ideas without nuts", "what keeps until noon", "something warm", "ideas for a child of six"],
}
CHAT_OPENERS = ["", "Hi! ", "Quick one: ", "Me again. ", "Hello, ", "So, "]
CHAT_FOLLOW_UPS = [
    "And if I have less time?",
    "Why is that?",
    "What if I don't have that at home?",
    "Thanks, anything else?",
]

RAG_SYSTEM = "Answer only from the handbook pages below, in at most twelve words."
RAG_SUBJECTS = {
    "the ferry pass": ("valid on all harbour lines", "14 days", "at any quay office", "the purser"),
    "the tool library": ("open to members of the allotment", "7 days", "at the green shed", "the warden"),
    "the studio kiln": ("fired on Thursdays only", "2 firings", "in the booking sheet", "the kiln keeper"),
    "the boat trailer": ("limited to 750 kilograms", "3 days", "at the slipway desk", "the harbour master"),
    "the seed archive": ("kept at four degrees", "1 season", "through the seed form", "the archivist"),
    "the night bus": ("stops on request after ten", "1 journey", "from the driver", "the depot"),
    "the reading room": ("silent before noon", "4 hours", "at the front desk", "the librarian"),
    "the bell tower": ("closed in high wind", "30 minutes", "from the verger", "the verger"),
}
RAG_QUESTIONS = [
    "For how long may somebody keep {}?",
    "Where does one ask for {}?",
    "Who looks after {}?",
    "What is the rule about {}?",
    "What happens when {} is returned late?",
    "Is a deposit needed for {}?",
]

EVALUATION_SYSTEM = (
    "You take part in a regression test of an assistant. Each item is a question with four options, A to D. Read the "
    "question twice, choose the one option that is right, and reply with its letter and nothing else: no explanation, "
    "no punctuation, no greeting. When two options seem right, choose the more specific one. When none seems right, "
    "choose the one that is nearest. Items are independent; never refer to an earlier one. The reply is compared by a "
    "program, so a reply with more than one letter counts as wrong."
)
HARVEST_VERBS = [
    "Write a detailed explanation of", "Give step-by-step instructions for", "Compare two approaches to",
    "List ten facts about", "Write a short story that involves", "Design an exercise about",
    "Explain to a beginner the idea of", "Write a dialogue on", "Summarise the history of",
    "Propose three unusual uses of", "Write a critical essay about", "Create a quiz on",
    "Derive from first principles", "Write a product description for", "Translate into plain language the notion of",
    "Give a counter-argument concerning",
]  # fmt: skip
HARVEST_TOPICS = [
    "tidal energy", "binary search trees", "medieval guilds", "photosynthesis", "sonnet structure", "interest rates",
    "volcanic soil", "chess openings", "vaccines", "supply chains", "glacier movement", "jazz harmony",
    "contract law", "knot theory", "bee colonies", "typography", "solar panels", "public speaking", "genetic drift",
    "recursion", "the silk road", "fermentation", "game theory", "wind instruments", "urban planning", "black holes",
    "sleep cycles", "bridge design", "poker odds", "coral reefs", "stoicism", "compilers", "cheese making",
    "plate tectonics", "haiku", "inflation", "robot arms", "mitosis", "map projections", "sailing", "cryptography",
    "stage lighting", "crop rotation", "neural networks", "maritime law", "pigments", "stem cells", "queueing",
    "opera", "soil chemistry", "satellite orbits", "negotiation", "origami", "antibiotics", "databases",
    "glass blowing", "ethics", "tax brackets", "migration of birds", "linear algebra", "rhetoric", "battery storage",
    "mythology", "water purification",
]  # fmt: skip
HARVEST_TURNS = [
    "for a reader aged twelve", "with one worked example", "in a formal tone", "as a numbered list",
    "with common mistakes", "and end with a question", "using an analogy from cooking", "for an expert audience",
    "in exactly five sentences", "with pros and cons", "and justify each claim", "as if for a lecture",
]  # fmt: skip


def conversations(seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield endlessly an end user and the two or three things this user asks in one conversation."""
    draw = random.Random(seed)
    favourites = {f"cook-{number:02}": draw.sample(sorted(CHAT_TOPICS), 2) for number in range(25)}
    while True:
        user = draw.choice(sorted(favourites))
        topic = draw.choice(favourites[user])
        opening = f"{draw.choice(CHAT_OPENERS)}about {topic}: {draw.choice(CHAT_TOPICS[topic])}?"
        yield user, [opening, *draw.sample(CHAT_FOLLOW_UPS, draw.choice([1, 2]))]


def handbook_page(subject: str) -> str:
    """Return the page of the handbook about a subject; the same every time, as a retriever returns it."""
    rule, period, place, person = RAG_SUBJECTS[subject]
    return (
        f"Page on {subject}. It is {rule}. It may be kept for {period} and is asked for {place}. {person.capitalize()} "
        f"looks after it and decides about exceptions. Who returns it late pays a small fee to {person}; a deposit is "
        "taken only from guests. Damage is reported the same day, in writing, with the name of the borrower."
    )


def retrievals(seed: int) -> Iterator[str]:
    """Yield endlessly a question below the two handbook pages that its subject retrieves."""
    draw = random.Random(seed)
    subjects = sorted(RAG_SUBJECTS)
    while True:
        place = draw.randrange(len(subjects))
        subject, other = subjects[place], subjects[(place + 3) % len(subjects)]
        question = draw.choice(RAG_QUESTIONS).format(subject)
        yield f"{handbook_page(subject)}\n\n{handbook_page(other)}\n\nQuestion: {question}"


def evaluation_items(count: int = 50) -> list[str]:
    """Return the evaluation job's fixed items; the same list at every call."""
    draw = random.Random(50)
    items = []
    for number in range(count):
        left, right = draw.randint(3, 60), draw.randint(3, 60)
        options = draw.sample([left + right, left + right + 2, left + right - 3, left + right + 10], 4)
        choices = "  ".join(f"{letter}) {value}" for letter, value in zip("ABCD", options, strict=True))
        items.append(f"Item {number + 1}. A crate holds {left} jars and another {right}. How many in all?  {choices}")
    return items


def instructions(seed: int) -> Iterator[str]:
    """Yield unrelated instructions, no one twice, until none is left (some ten thousand)."""
    draw = random.Random(seed)
    every = [f"{verb} {topic}, {turn}." for verb in HARVEST_VERBS for topic in HARVEST_TOPICS for turn in HARVEST_TURNS]
    draw.shuffle(every)
    yield from every
