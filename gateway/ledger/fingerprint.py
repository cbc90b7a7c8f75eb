"""A request's fingerprint: what outlives its text (at most 400 bytes) and what detection and distillation compare by.

- `task_skeleton`: hash of what stays the same between requests of one task (RFC 7693 BLAKE2b over canonical JSON).
- `minhash`: 64 minima over word 3-shingles; equal positions estimate Jaccard similarity (Broder 1997), with
  multiply-shift hashing (Dietzfelbinger 1997).
- `embedding`: signed feature hashing of words and character n-grams to 128 dimensions (Weinberger et al. 2009).
- `conversation`: hash of the account and the first user message.

numpy only: the gateway imports it. Hashes are fixed for ever, as stored fingerprints are compared with new ones.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.ledger.content import content_text, text_of

MINHASH_SIZE = 64
EMBEDDING_SIZE = 128
SHINGLE = 3
# Longer texts are read at both ends only, so that a huge prompt can't hold up its worker.
LONGEST = 20_000

# A word is a run of letters, digits, underscores and bytes of non-ASCII characters; all else is a space.
_WORD_LETTERS = bytes(b if b >= 128 or chr(b).isalnum() or b == ord("_") else ord(" ") for b in range(256))
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio: Fibonacci hashing.
# Constants of the hash family come from SHAKE-256, not from numpy's generators, whose streams may change.
_CONSTANTS = np.frombuffer(hashlib.shake_256(b"spiritsafe minhash").digest(16 * MINHASH_SIZE), "<u8")
_MULTIPLIERS, _ADDENDS = _CONSTANTS[:MINHASH_SIZE] | np.uint64(1), _CONSTANTS[MINHASH_SIZE:]
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
# What constrains the form of an answer, in OpenAI's chat and Responses API, Anthropic's and vLLM's extensions.
_FORMAT_FIELDS = ("response_format", "structured_outputs", "output_config", "output_format", "text")
# What a record does not keep whole of what a skeleton is made of: with any of these the skeleton is made before it.
FORM_FIELDS = frozenset(("tools", "system", "instructions", *_FORMAT_FIELDS))
_SYSTEM_ROLES = ("system", "developer")


def task_skeleton(endpoint: str, body: Mapping[str, Any]) -> str:
    """Return the task's hash, 32 hexadecimal digits.

    It covers the endpoint, the text of system and developer messages, the full tool declarations, `response_format`
    and vLLM's structured output fields: whatever a program writes once and sends with every request of a task.
    """
    form = {name: body[name] for name in body if name in _FORMAT_FIELDS or name.startswith("guided_")}
    parts = {
        "endpoint": endpoint,
        "system": _system_texts(body),
        "tools": body.get("tools") or None,
        "form": {name: value for name, value in form.items() if value is not None},
    }
    return _hash(parts, 16)


def minhash(text: str) -> NDArray[np.uint32]:
    """Return the MinHash signature of a text's word 3-shingles: uint32, shape (64,); its maximum without any words."""
    return _minhash(_word_hashes(_letters(text)))


def embedding(text: str) -> NDArray[np.int8]:
    """Return a vector of a text: int8, shape (128,), scaled so that its largest entry is ±127; compare by cosine.

    Features are words (weight 2) and the byte 3- and 5-grams of the lower-cased text (weight 1). A text without
    features is the zero vector.
    """
    letters = _letters(text)
    return _embedding(letters, _word_hashes(letters))


def conversation(record: Mapping[str, Any]) -> str | None:
    """Return the hash of `metadata["conversation"]`, else of the first user message, with the account; else None."""
    metadata = record.get("metadata")
    named = metadata.get("conversation") if isinstance(metadata, dict) else None
    first = named or _first_user_text(record)
    return _hash([record.get("account"), first], 16) if first else None


def complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with what its fingerprint lacks and its text allows, in the bytes that the lake keeps."""
    known = record.get("fingerprint")
    fingerprint = dict(known) if isinstance(known, dict) else {}
    text = text_of(record)
    if text and (fingerprint.get("minhash") is None or fingerprint.get("embedding") is None):
        letters = _letters(text)
        words = _word_hashes(letters)
        made = {"minhash": _minhash(words).tobytes(), "embedding": _embedding(letters, words).tobytes()}
        fingerprint |= {name: value for name, value in made.items() if fingerprint.get(name) is None}
    if fingerprint.get("skeleton") is None and ("messages" in record or "prompt" in record):
        fingerprint["skeleton"] = _skeleton_of(record)
    if fingerprint.get("conversation") is None:
        fingerprint["conversation"] = conversation(record)
    return {**record, "fingerprint": fingerprint}


def _skeleton_of(record: Mapping[str, Any]) -> str:
    # A record names its tools only and keeps the format among its parameters.
    parameters = record.get("parameters")
    body = dict(parameters) if isinstance(parameters, dict) else {}
    body.update({name: record[name] for name in ("messages", "tools") if name in record})
    return task_skeleton(str(record.get("endpoint")), body)


def _system_texts(body: Mapping[str, Any]) -> list[str]:
    texts = [content_text(body.get(name)) for name in ("system", "instructions")]
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and message.get("role") in _SYSTEM_ROLES:
            texts.append(content_text(message.get("content")))
    return [text for text in texts if text]


def _first_user_text(record: Mapping[str, Any]) -> str:
    messages = record.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and message.get("role") == "user":
            return content_text(message.get("content"))
    return content_text(record.get("prompt"))


def _hash(value: object, size: int) -> str:
    return hashlib.blake2b(_CANONICAL.encode(value).encode(), digest_size=size).hexdigest()


def _letters(text: str) -> bytes:
    clipped = text if len(text) <= LONGEST else text[: LONGEST // 2] + text[-LONGEST // 2 :]
    return clipped.lower().encode("utf-8", "replace")


def _word_hashes(letters: bytes) -> NDArray[np.uint64]:
    words = letters.translate(_WORD_LETTERS).split()
    return np.fromiter(map(zlib.crc32, words), np.uint64, len(words))


def _minhash(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    if words.size == 0:
        return np.full(MINHASH_SIZE, 2**32 - 1, np.uint32)
    shingles = np.zeros(max(1, words.size - SHINGLE + 1), np.uint64)
    for position in range(min(SHINGLE, words.size)):
        shingles = shingles * _ODD + words[position : position + shingles.size]
    shingles ^= shingles >> np.uint64(29)
    minima: NDArray[np.uint64] = (shingles[:, None] * _MULTIPLIERS + _ADDENDS).min(axis=0)
    return (minima >> np.uint64(32)).astype(np.uint32)


def _embedding(letters: bytes, words: NDArray[np.uint64]) -> NDArray[np.int8]:
    single = np.frombuffer(letters, np.uint8).astype(np.uint64)
    features = np.concatenate((words, _byte_ngrams(single, 3), _byte_ngrams(single, 5)))
    mixed = (features * _ODD) >> np.uint64(40)
    signs = np.where(mixed & np.uint64(1 << 20), 1.0, -1.0)
    signs[: words.size] *= 2
    totals = np.bincount((mixed & np.uint64(EMBEDDING_SIZE - 1)).astype(np.int64), signs, EMBEDDING_SIZE)
    # A frequent gram counts by its root: otherwise spaces and articles are all that two texts have in common.
    damped = np.sign(totals) * np.sqrt(np.abs(totals))
    largest = np.abs(damped).max()
    return np.rint(damped * (127 / largest)).astype(np.int8) if largest > 0 else np.zeros(EMBEDDING_SIZE, np.int8)


def _byte_ngrams(letters: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    count = max(0, letters.size - length + 1)
    grams = np.full(count, length, np.uint64)  # The length is part of the gram, so that 3- and 5-grams never meet.
    for position in range(length):
        grams = (grams << np.uint64(8)) | letters[position : position + count]
    return grams
