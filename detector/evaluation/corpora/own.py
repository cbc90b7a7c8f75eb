"""Prompts of our own making in five languages, for where no corpora are at hand, and as corpora beside them."""

from __future__ import annotations

import itertools
from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item

_ENGLISH_SUBJECTS = (
    "tides", "bread", "chess openings", "tax returns", "rainbows", "glaciers", "contract law", "bicycle gears",
    "vaccines", "medieval guilds", "sorting algorithms", "choir singing", "compost", "satellites", "inflation",
    "bridge building", "sleep", "coral reefs", "typography", "volcanoes", "job interviews", "magnets", "opera",
    "railway timetables", "migraine", "honey bees", "recursion", "street lighting", "negotiation", "wool",
)  # fmt: skip
_ENGLISH_TASKS = (
    "Explain what somebody new to {a} should understand first, and why it is often got wrong.",
    "Write a short dialogue in which two neighbours disagree about {a} and end up agreeing on {b}.",
    "Which three mistakes do people make with {a}? Give an example of each.",
    "Compare {a} with {b} in a table of four rows.",
    "Draft a friendly letter that asks a museum for material on {a}.",
    "Summarise the history of {a} in one paragraph and name two open questions.",
    "Invent a quiz question about {a} with four choices, and say which one is right.",
    "How would you measure whether a course on {a} was worth its price?",
    "Write a limerick about {a}, then explain its joke to someone who only knows {b}.",
    "List the tools that work with {a} needs, from cheap to expensive.",
    "A reader confuses {a} with {b}. Clear it up without technical words.",
    "Plan an afternoon for a school class around {a}; say what is needed and what may go wrong.",
    "What would change in daily life if there were no {a}?",
    "Write a Python function that turns notes about {a} into a list of headings.",
    "Give the strongest argument against spending public money on {a}, then answer it.",
    "Turn this note into plain English: “{a}, see {b}, not before Thursday, ask twice.”",
)  # fmt: skip
_OTHERS = {
    "de": (
        ("Gezeiten", "Brot", "Steuern", "Gletscher", "Fahrräder", "Impfungen", "Chorgesang", "Kompost", "Satelliten",
         "Schlaf", "Schriften", "Vulkane", "Magnete", "Honigbienen", "Wolle"),
        ("Erkläre, was man über {a} zuerst verstehen sollte.", "Vergleiche {a} und {b} in vier Sätzen.",
         "Welche drei Fehler macht man bei {a}?", "Schreibe einen Brief an ein Museum über {a}.",
         "Fasse die Geschichte von {a} zusammen.", "Erfinde eine Quizfrage zu {a} mit vier Antworten.",
         "Was würde sich ohne {a} im Alltag ändern?", "Plane einen Nachmittag für eine Schulklasse zu {a}.",
         "Schreibe ein kurzes Gespräch zweier Nachbarn über {a} und {b}.", "Nenne Werkzeuge für {a}, billige zuerst."),
    ),
    "fr": (
        ("les marées", "le pain", "les impôts", "les glaciers", "les vélos", "les vaccins", "le chant", "le compost",
         "les satellites", "le sommeil", "la typographie", "les volcans", "les aimants", "les abeilles", "la laine"),
        ("Expliquez ce qu’il faut d’abord comprendre sur {a}.", "Comparez {a} et {b} en quatre phrases.",
         "Quelles sont les trois erreurs courantes avec {a} ?", "Rédigez une lettre à un musée sur {a}.",
         "Résumez l’histoire de ce qu’on sait sur {a}.", "Inventez une question à quatre choix sur {a}.",
         "Que changerait la vie quotidienne sans {a} ?", "Préparez un après-midi de classe autour de {a}.",
         "Écrivez un bref dialogue de deux voisins sur {a} et {b}.", "Citez les outils utiles pour {a}."),
    ),
    "es": (
        ("las mareas", "el pan", "los impuestos", "los glaciares", "las bicicletas", "las vacunas", "el canto",
         "el compost", "los satélites", "el sueño", "la tipografía", "los volcanes", "los imanes", "las abejas"),
        ("Explica qué hay que entender primero sobre {a}.", "Compara {a} y {b} en cuatro frases.",
         "¿Qué tres errores se cometen con {a}?", "Redacta una carta a un museo sobre {a}.",
         "Resume la historia de lo que se sabe sobre {a}.", "Inventa una pregunta con cuatro opciones sobre {a}.",
         "¿Qué cambiaría en la vida diaria sin {a}?", "Planea una tarde escolar sobre {a}.",
         "Escribe un diálogo breve entre dos vecinos sobre {a} y {b}.", "Enumera herramientas útiles para {a}."),
    ),
    "cs": (
        ("příliv", "chléb", "daně", "ledovce", "jízdní kola", "očkování", "sborový zpěv", "kompost", "družice",
         "spánek", "písmo", "sopky", "magnety", "včely", "vlnu"),
        ("Vysvětli, co je třeba nejdřív vědět, když jde o {a}.", "Porovnej {a} a {b} ve čtyřech větách.",
         "Jaké tři chyby lidé dělají, když jde o {a}?", "Napiš muzeu dopis, ve kterém jde o {a}.",
         "Shrň, co se ví, když jde o {a}.", "Vymysli otázku se čtyřmi odpověďmi: {a}.",
         "Co by se změnilo bez věcí, jako jsou {a}?", "Naplánuj školní odpoledne na téma {a}.",
         "Napiš krátký rozhovor dvou sousedů: {a} a {b}.", "Vyjmenuj nástroje, které se hodí na {a}."),
    ),
}  # fmt: skip


def _corpus(language: str, subjects: tuple[str, ...], tasks: tuple[str, ...]) -> Corpus:
    pairs = itertools.permutations(subjects, 2)
    texts = {task.format(a=first, b=second): first for first, second in pairs for task in tasks}
    return Corpus(f"own-{language}", tuple(item(text, topic=topic) for text, topic in texts.items()), language)


def _load(data: Path) -> list[Corpus]:
    english = _corpus("en", _ENGLISH_SUBJECTS, _ENGLISH_TASKS)
    return [english, *(_corpus(language, *parts) for language, parts in _OTHERS.items())]


ADAPTER = Adapter("own", _load)
