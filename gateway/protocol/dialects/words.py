"""The commonest chunk of a stream: one more word, and the usage so far, in a form that is the same every time.

Once one such chunk has been read as JSON, the bytes around its word and its usage are known. A later chunk with the
same bytes in the same places, a plain word and plain usage says the same with another word: it need not be read again.
"""

from __future__ import annotations

import re

import orjson

_USAGE = b',"usage":{'
# What follows: whole numbers by name, then the ends of usage and chunk. As strict as JSON, for nobody reads it again.
_NUMBER = rb'"[a-z_]+":(?:0|[1-9][0-9]{0,14})'
_NUMBERS = re.compile(rb"%b(?:,%b)*\}\}" % (_NUMBER, _NUMBER))


class WordForm:
    """The form of a chunk, as the event that holds it: what stands before the word, and between word and usage."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after

    @classmethod
    def of(cls, event: bytes, word: str) -> WordForm | None:
        """Return the form of an event whose chunk was read: one choice with this word, then usage; None without one."""
        content = b'"content":' + orjson.dumps(word)
        start = event.find(content) + len(b'"content":"')
        usage = event.rfind(_USAGE) + len(_USAGE)
        end = start + len(content) - len(b'"content":""')
        # A quotation mark inside a text would be escaped, so what is there once is the choice's own content.
        if event.count(content) != 1 or not end < usage or _NUMBERS.fullmatch(event, usage) is None:
            return None
        return cls(event[:start], event[end:usage])

    def read(self, event: bytes) -> tuple[str, bytes, bytes] | None:
        """Return word, usage as JSON, and the event without usage; None: it has another form, or must be read."""
        if not event.startswith(self._before):
            return None
        start = len(self._before)
        end = event.find(b'"', start)
        if end == start or not event.startswith(self._after, end):
            return None
        usage = end + len(self._after)
        try:
            word = event[start:end].decode()
        except UnicodeDecodeError:
            return None
        if not word.isprintable() or "\\" in word or _NUMBERS.fullmatch(event, usage) is None:
            return None
        return word, event[usage - 1 : -1], event[: usage - len(_USAGE)] + b"}"
