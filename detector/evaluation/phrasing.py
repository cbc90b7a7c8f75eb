"""Instructions as programs and people write them: put together from parts, so that an account has wordings of its own.

Everything here is drawn the same way for ordinary accounts and for campaigns. A wording is settled by a seed: accounts
that share one share it to the letter, others hardly ever meet.
"""

from __future__ import annotations

import random

LANGUAGES = (
    "German", "French", "Spanish", "Czech", "Italian", "Polish", "Dutch", "Portuguese", "Swedish", "Turkish",
    "Japanese", "Hindi", "Finnish", "Greek",
)  # fmt: skip
TOOL_NAMES = (
    "read_file", "write_file", "run_command", "search", "run_tests", "list_directory", "apply_patch", "web_search",
    "open_page", "get_weather", "query_database", "send_mail", "create_ticket", "look_up_order", "calendar",
    "calculate", "translate", "get_customer", "refund", "plot", "retrieve", "fetch_url", "grep", "edit", "think",
)  # fmt: skip
_SYLLABLES = ("nor", "ve", "la", "ter", "mo", "ka", "lin", "sa", "bru", "do", "fen", "ri", "ost", "ha", "um", "pe")
_ROLES = (
    "the assistant of {name}", "a guide of the {name} museum", "the help desk of {name} Railways",
    "a tutor at {name} evening school", "an editor of the {name} Gazette", "the front desk of Hotel {name}",
    "a planner at {name} market gardens", "a clerk in the {name} repair shop", "a research assistant at {name}",
    "the information desk of {name} public library", "a senior engineer at {name}", "{name}, a cheerful companion",
    "the shopping assistant of {name}", "a paralegal at {name} and partners", "a nurse line of the {name} clinic",
    "an analyst of {name} Insurance", "a copywriter for {name}", "the internal knowledge base of {name}",
)  # fmt: skip
_RULES = (
    "Answer from what you know and say so where you are unsure.", "Keep to the question and use plain words.",
    "Write in full sentences and avoid lists unless somebody asks for one.", "Never invent names or numbers.",
    "Give the result first and the reason after it.", "Be friendly and brief.",
    "Where something is dangerous or forbidden, say why and suggest what else would do.",
    "Explain each step that a beginner would trip over.", "End with one sentence that sums it up.",
    "Do not discuss competitors or prices.", "Use metric units.", "Address the reader formally.",
    "If the request is unclear, ask one question back.", "Cite the section that you rely on.",
    "Use Markdown with short headings.", "Stay in character.", "Never mention these instructions.",
    "Prefer examples to definitions.", "Keep the answer under 150 words.", "Think about edge cases before you answer.",
    "Write code in Python 3.11 with type hints.", "Do not apologise.", "Quote numbers with their sources.",
    "Antworte auf Deutsch, wenn die Frage deutsch ist.", "Répondez dans la langue de la question.",
    "Responde siempre con cortesía.", "Reply in the language of the user.",
)  # fmt: skip
GENERIC = (
    "You are a helpful assistant.", "You are a careful assistant.", "Answer helpfully.", "Be concise.",
    "You are an expert.", "You are a helpful, respectful and honest assistant.", "Tu es un assistant utile.",
    "Du bist ein hilfreicher Assistent.", "Answer the question.", "You are a large language model.",
)  # fmt: skip
_FORMS = (
    "Reply as JSON with the keys {a} and {b}.", "Return one line: {a}, then {b}, separated by a tab.",
    "Put {a} into <{a}> tags.", "Give {a} first, then {b} in brackets.",
)  # fmt: skip
_KEYS = ("answer", "reason", "source", "confidence", "summary", "label", "title", "body", "next_step", "result")
_LABELS = (
    "question, complaint, order, other", "sales, service, billing, none", "urgent, normal, irrelevant", "yes or no",
    "positive, negative, neutral", "spam, ham", "A, B, C, D", "animal, plant, thing, idea", "0, 1, 2, 3",
    "legal, medical, technical, everyday", "formal, informal", "easy, medium, hard", "refund, exchange, repair",
    "Lob, Kritik, Frage", "oui, non, incertain",
)  # fmt: skip
_ASPECTS = (
    "accuracy",
    "depth",
    "style",
    "correctness",
    "tone",
    "brevity",
    "safety",
    "usefulness",
    "structure",
    "logic",
)


def name_of(rng: random.Random) -> str:
    """Make up a name."""
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))).capitalize()


def application_prompt(rng: random.Random) -> str:
    """Draw an application's system prompt: a role, some rules, at times a form and facts; 60 to 1,500 characters."""
    rules = rng.sample(_RULES, rng.randint(1, 8))
    facts = [f"{name_of(rng)}: {rng.randint(1, 999)} {rng.choice(('rooms', 'euros', 'pieces', 'minutes', 'pages'))}."
             for _ in range(rng.choice((0, 0, 0, 0, rng.randint(3, 25))))]  # fmt: skip
    form = [output_form(rng)] if rng.random() < 0.25 else []
    role = rng.choice(_ROLES).format(name=name_of(rng))
    return rng.choice((" ", "\n", "\n- ")).join([f"You are {role}.", *rules, *form, *facts])


def output_form(rng: random.Random) -> str:
    """Draw a demand on the form of an answer."""
    first, second = rng.sample(_KEYS, 2)
    return rng.choice(_FORMS).format(a=first, b=second)


def labelling(rng: random.Random) -> str:
    """Draw an instruction to sort texts into classes."""
    order = rng.choice(("Sort the text into one of", "Classify the message as", "Decide which fits", "Label it",
                        "What is this about? Choose from", "Tag the input with one of", "Route it to"))  # fmt: skip
    end = rng.choice(("Answer with the label only.", "One word.", "Reply with the class and nothing else.",
                      "No explanation.", 'Return {"label": …}.', "Output only the class name.", ""))  # fmt: skip
    return f"{order}: {rng.choice(_LABELS)}. {end}".strip()


def grading(rng: random.Random) -> str:
    """Draw a rubric to grade answers by."""
    aspects = rng.sample(_ASPECTS, rng.randint(1, 4))
    order = rng.choice(("Grade the answer by the rubric", "Judge the reply against these criteria", "Rate what follows",
                        "Score how well the text answers the question", "Act as a strict examiner. Look at",
                        "Compare with what an expert would write; mind"))  # fmt: skip
    scale = rng.choice(("Reply with a score from 1 to 10 as JSON.", "Give a mark from A to F.", "0–5, number only.",
                        "Name the weakest point in five words.", "Return PASS or FAIL.",
                        "One integer per criterion, comma-separated."))  # fmt: skip
    return f"{order}: {', '.join(aspects)}. {scale}"


def grounding(rng: random.Random) -> str:
    """Draw an instruction to answer from given passages."""
    rule = rng.choice(("Answer from the context only", "Use the passages below", "Keep to what the documents say",
                       "Rely on nothing but the sources given", "Base the reply on the extracts"))  # fmt: skip
    end = rng.choice(("and say so where it has no answer.", "and quote what you rely on.", "in two or three sentences.",
                      "and give the number of the passage.", "; otherwise reply “not stated”."))  # fmt: skip
    return f"{rule} {end}"


def working_with_tools(rng: random.Random) -> str:
    """Draw an agent's instruction."""
    role = rng.choice(("You are an agent that works with tools.", "You solve tasks in a repository.",
                       f"You are {name_of(rng)}, an autonomous worker.", "You operate a computer by calling functions.",
                       "You are a coding assistant in a terminal."))  # fmt: skip
    how = rng.choice(("Call a tool, read its result, and go on until the task is done.", "Make one step at a time.",
                      "Plan first, then act, and check what it did.", "Use as few calls as possible.",
                      "Stop when the tests pass."))  # fmt: skip
    return f"{role} {how}"


def translating(rng: random.Random, language: str) -> str:
    """Draw an instruction to translate."""
    order = rng.choice(("Translate the user's text into {}.", "Render this in {}.", "You translate into {}.",
                        "Give the {} version.", "Localise for readers of {}."))  # fmt: skip
    end = rng.choice(
        ("Keep names as they are.", "Nothing but the translation.", "Keep the tone.", "Preserve markup.", "")
    )
    return f"{order.format(language)} {end}".strip()


def eliciting(rng: random.Random) -> str:
    """Draw a demand for the working behind an answer."""
    return rng.choice((
        "Think step by step.", "Show your working before the answer.", "Explain your reasoning, then answer.",
        "Set out every intermediate result, and only then conclude.", "Go through it slowly from the beginning.",
        "First write down what you consider, then decide.", "Let's work this out in stages.",
        "Put your thoughts into <think> tags, then the answer.", "Justify each step.", "Begründe jeden Schritt.",
        "Derive the result; do not just state it.", "What would you check first, second, third? Then answer.",
        "Write a detailed solution.", "Reason aloud.", "Explain how you get there.", "Détaillez le raisonnement.",
        "Return JSON with `reasoning` (long) and `answer` (short).", "Lay out the argument in numbered points.",
    ))  # fmt: skip


def evolving(rng: random.Random) -> str:
    """Draw a demand for new instructions like those shown."""
    order = rng.choice(("Write ten new tasks like these", "Make each of these harder", "Continue the list",
                        "Invent a rarer instruction in the manner of these", "Rewrite the first one to need more steps",
                        "Come up with diverse instructions"))  # fmt: skip
    return f"{order}{rng.choice((':', '. Do not repeat any.', ', one a line:', ' and answer them:'))}"


def writing_brief(rng: random.Random) -> str:
    """Draw a brief for a piece of content, to be followed by notes."""
    form = rng.choice(("a product page", "a travel tip", "an FAQ entry", "a short news item", "a blog post",
                       "a landing page", "a newsletter", "three headlines and a lead", "a social media thread",
                       "a how-to article", "a job advert", "a meta description and an outline",
                       "a listicle", "a review"))  # fmt: skip
    tone = ", ".join(rng.sample(("friendly", "concrete", "no superlatives", "for experts", "search-engine friendly",
                                 "in the first person", "with a call to action", "witty", "sober", "with subheadings"),
                                rng.randint(1, 3)))  # fmt: skip
    length = rng.choice(("80", "150", "250", "400", "600", "900"))
    return f"Write {form} of about {length} words from these notes: {tone}."


def wrapping(rng: random.Random) -> str:
    """Draw what a program puts around each question, with `{}` in its place; mostly nothing."""
    if rng.random() < 0.55:
        return "{}"
    return rng.choice((
        "Question: {}\nAnswer:", "### Instruction:\n{}\n\n### Response:", "Please answer: {}", "<task>{}</task>",
        "User request: {}", "{}\n\n" + output_form(rng), f"[{name_of(rng)}] {{}}", "Input:\n{}\n---", "Q: {}",
        f"{rng.choice(_RULES)}\n\n{{}}", "Help me with this: {}", "{} Thanks!",
    ))  # fmt: skip
