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
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.ledger.content import content_text, text_of

MINHASH_SIZE = 64
EMBEDDING_SIZE = 128
SHINGLE = 3
# Longer texts are read at both ends only, so that a huge prompt can't hold up its worker.
LONGEST = 20_000
_AT_ONCE = 32_768  # bytes of texts: few calls of numpy for each of them, and what it works on stays in a core's cache

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
    form = {name: value for name, value in form.items() if value is not None}
    system = ",".join(map(_CANONICAL.encode, _system_texts(body)))
    tools = _CANONICAL.encode(body["tools"]) if body.get("tools") else "null"
    made = _CANONICAL.encode(form) if form else "{}"
    return _hash(f'{{"endpoint":{_CANONICAL.encode(endpoint)},"form":{made},"system":[{system}],"tools":{tools}}}')


def minhash(text: str) -> NDArray[np.uint32]:
    """Return the MinHash signature of a text's word 3-shingles: uint32, shape (64,); its maximum without any words."""
    letters = [_letters(text)]
    minima: NDArray[np.uint32] = _minhashes(*_word_hashes(letters))[0]
    return minima


def embedding(text: str) -> NDArray[np.int8]:
    """Return a vector of a text: int8, shape (128,), scaled so that its largest entry is ±127; compare by cosine.

    Features are words (weight 2) and the byte 3- and 5-grams of the lower-cased text (weight 1). A text without
    features is the zero vector.
    """
    letters = [_letters(text)]
    vector: NDArray[np.int8] = _embeddings(letters, *_word_hashes(letters))[0]
    return vector


def signature(text: str) -> dict[str, bytes]:
    """Return both of them, `minhash` and `embedding`, in the bytes that the lake keeps."""
    made: dict[str, bytes] = {}
    _sign([(made, _letters(text))])
    return made


def conversation(record: Mapping[str, Any]) -> str | None:
    """Return the hash of `metadata["conversation"]`, else of the first user message, with the account; else None."""
    metadata = record.get("metadata")
    named = metadata.get("conversation") if isinstance(metadata, dict) else None
    first = named or _first_user_text(record)
    return _hash(f"[{_CANONICAL.encode(record.get('account'))},{_CANONICAL.encode(first)}]") if first else None


def complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with what its fingerprint lacks and its text allows, in the bytes that the lake keeps."""
    return complete_all([record])[0]


def complete_all(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Complete many records at once, which takes a third of the time that one after the other does."""
    made: list[dict[str, Any]] = []
    wanting: list[tuple[dict[str, Any], bytes]] = []
    size = 0
    for record in records:
        known = record.get("fingerprint")
        fingerprint = dict(known) if isinstance(known, dict) else {}
        made.append({**record, "fingerprint": fingerprint})
        has_text = "messages" in record or "prompt" in record
        if has_text:
            text = text_of(record)
            if text and (fingerprint.get("minhash") is None or fingerprint.get("embedding") is None):
                wanting.append((fingerprint, _letters(text)))
                size += len(wanting[-1][1])
            if fingerprint.get("skeleton") is None:
                fingerprint["skeleton"] = _skeleton_of(record)
        if fingerprint.get("conversation") is None:
            fingerprint["conversation"] = conversation(record) if has_text or "metadata" in record else None
        if size >= _AT_ONCE:
            _sign(wanting)
            wanting, size = [], 0
    _sign(wanting)
    return made


def _sign(wanting: Sequence[tuple[dict[str, Any], bytes]]) -> None:
    """Give each fingerprint what it lacks of the MinHash and the embedding of its text."""
    if not wanting:
        return
    letters = [text for _fingerprint, text in wanting]
    words, counts = _word_hashes(letters)
    signatures = zip(_minhashes(words, counts), _embeddings(letters, words, counts), strict=True)
    for (fingerprint, _text), (minima, vector) in zip(wanting, signatures, strict=True):
        for name, value in (("minhash", minima), ("embedding", vector)):
            if fingerprint.get(name) is None:
                fingerprint[name] = value.tobytes()


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


def _hash(canonical: str) -> str:
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _letters(text: str) -> bytes:
    clipped = text if len(text) <= LONGEST else text[: LONGEST // 2] + text[-LONGEST // 2 :]
    return clipped.lower().encode("utf-8", "replace")


def _word_hashes(letters: Sequence[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the hashes of the words of all texts, one after the other, and how many each text has."""
    words = [text.translate(_WORD_LETTERS).split() for text in letters]
    counts = np.fromiter(map(len, words), np.int64, len(words))
    return np.fromiter(map(zlib.crc32, chain.from_iterable(words)), np.uint64, int(counts.sum())), counts


def _minhashes(words: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return uint32, shape (texts, 64)."""
    short = np.maximum(SHINGLE - counts, 0)
    if short.any():  # One or two words are one shingle, of what there is: zeros before them leave it as it is.
        words = np.insert(words, np.repeat(np.cumsum(counts) - counts, short), 0)
    shingles = (words[:-2] * _ODD + words[1:-1]) * _ODD + words[2:]
    shingles ^= shingles >> np.uint64(29)
    hashed = _MULTIPLIERS[:, None] * shingles
    hashed += _ADDENDS[:, None]
    # From each text's first shingle to its last, and, passed over, what reaches into the next text.
    ends = np.cumsum(counts + short)
    bounds = np.stack((ends - counts - short, ends - SHINGLE + 1), axis=1).ravel()[:-1]
    minima = np.minimum.reduceat(hashed, bounds, axis=1)[:, ::2]
    minima[:, counts == 0] = 2**64 - 1
    return (minima.T >> np.uint64(32)).astype(np.uint32)


def _embeddings(letters: Sequence[bytes], words: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return int8, shape (texts, 128)."""
    texts = np.arange(len(letters)) * (2 * EMBEDDING_SIZE)
    owners = np.repeat(texts, np.fromiter(map(len, letters), np.int64, len(letters)))
    single = np.frombuffer(b"".join(letters), np.uint8).astype(np.uint64)
    pairs = (single[:-1] << np.uint64(8)) | single[1:]
    threes = (pairs[:-1] << np.uint64(8)) | single[2:]
    fives = (threes[:-2] << np.uint64(16)) | pairs[3:]
    features, owned = [words, words], [np.repeat(texts, counts)] * 2
    for length, grams in ((3, threes), (5, fives)):
        inside = owners[: grams.size] == owners[length - 1 :]  # and not across the border of two texts
        # The length is part of the gram, so that 3- and 5-grams never meet.
        features.append(grams[inside] | np.uint64(length << (8 * length)))
        owned.append(owners[: grams.size][inside])
    mixed = np.concatenate(features) * _ODD
    buckets = ((mixed >> np.uint64(40)) & np.uint64(EMBEDDING_SIZE - 1)) | ((mixed >> np.uint64(53)) & np.uint64(128))
    places = buckets.astype(np.int64) + np.concatenate(owned)
    found = np.bincount(places, minlength=texts.size * 2 * EMBEDDING_SIZE).reshape(-1, 2, EMBEDDING_SIZE)
    totals = found[:, 1] - found[:, 0]
    # A frequent gram counts by its root: otherwise spaces and articles are all that two texts have in common.
    damped = np.sign(totals) * np.sqrt(np.abs(totals))
    largest = np.abs(damped).max(axis=1, keepdims=True)
    vectors: NDArray[np.int8] = np.rint(damped * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)
    return vectors
