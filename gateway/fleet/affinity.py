"""Prefix affinity: like prefixes go to like servers, whose caches know them, by rendezvous hashing.

Every gateway computes the same order of servers for the same prefix from nothing but their URLs and weights, so they
agree without talking, nothing is remembered per prefix, and a server that comes or goes moves only its own share.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import google_crc32c

from gateway.protocol.requests import InferenceRequest

LONGEST_PREFIX = 4096  # characters that are looked at
LONGEST_QUESTION = 1024  # of them, of the first message that is not the system's
LONG_SYSTEM = 1024  # characters of a system prompt that are worth more than what follows on the first turn

LONGEST_TOKENS = 512  # of a prompt that comes as token ids
# Prefixes share this many orders of servers, which bounds what a gateway keeps, and are spread evenly all the same.
SLOTS = 4096

_MASK = (1 << 64) - 1
_UNIT = 1.0 / (1 << 52)


def prefix_slot(request: InferenceRequest) -> int | None:
    """Return a number below `SLOTS` that requests share whose prompts begin alike, or name one `prompt_cache_key`.

    A first turn goes by its system prompt where that is long, so that one application's questions meet. Everything
    else goes by system prompt and the start of the first question: a conversation stays where its history is, and does
    not queue with all the others of its application. vLLM never shares what has another `cache_salt`, so that is part
    of it. None for a request without any text.
    """
    body = request.body
    hint = body.get("prompt_cache_key")
    text = hint if isinstance(hint, str) and hint else _beginning(body)
    if not text:
        return None
    salt = body.get("cache_salt")
    if isinstance(salt, str):
        text = f"{salt}\0{text}"
    return int(google_crc32c.value(text.encode("utf-8", "surrogatepass"))) % SLOTS


def _beginning(body: dict[str, Any]) -> str:
    system = _text(body.get("system") or body.get("instructions"))[:LONGEST_PREFIX]
    turns = body.get("messages") or body.get("input") or body.get("prompt")
    if not isinstance(turns, list) or not isinstance(turns[0], dict):
        return _joined(system, _text(turns), first_turn=True)
    for position, turn in enumerate(turns):
        text = _text(turn.get("content")) if isinstance(turn, dict) else ""
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "developer"):
            return _joined(system, text, first_turn=position == len(turns) - 1)
        system += text[:LONGEST_PREFIX]
    return system[:LONGEST_PREFIX]


def _joined(system: str, question: str, *, first_turn: bool) -> str:
    if first_turn and len(system) >= LONG_SYSTEM:
        return system[:LONGEST_PREFIX]
    return f"{system[: LONGEST_PREFIX - LONGEST_QUESTION]}\0{question[:LONGEST_QUESTION]}" if system or question else ""


def _text(content: object) -> str:
    """Return the text of a message, of a prompt, or of the first of several prompts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return ""
    first = content[0]
    if isinstance(first, dict):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    if isinstance(first, str):
        return first
    return str((first if isinstance(first, list) else content)[:LONGEST_TOKENS])


def seed_of(url: str) -> int:
    """Return a server's own 64 bits; equal on every machine."""
    return int.from_bytes(hashlib.blake2b(url.encode(), digest_size=8).digest(), "big")


def score(slot: int, seed: int, weight: float) -> float:
    """Return a server's bid for a slot: the highest bid has it, and each wins in proportion to its weight.

    Weighted rendezvous hashing: -weight / ln(u) of a uniform u (Schindelhauer and Schomaker, SPAA 2005); u comes from
    the finaliser of MurmurHash3, which spreads slots that differ in a single bit.
    """
    mixed = slot ^ seed
    mixed = ((mixed ^ (mixed >> 33)) * 0xFF51AFD7ED558CCD) & _MASK
    mixed = ((mixed ^ (mixed >> 33)) * 0xC4CEB9FE1A85EC53) & _MASK
    mixed ^= mixed >> 33
    return -weight / math.log(((mixed >> 12) + 0.5) * _UNIT)
