"""The traffic record's JSON Schema (`traffic.schema.json` beside this file), compiled to plain Python checks.

A general validator takes about a millisecond for a record, which is too slow for an import of millions. This one
compiles the keywords that the schema uses, and no others, into predicates, and says what is wrong only where one
fails; a test holds it against `jsonschema`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.ledger.identifiers import from_rfc3339

SCHEMA_FILE = Path(__file__).with_name("traffic.schema.json")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_ANNOTATIONS = {"$schema", "title", "default", "additionalProperties"}
# What a type is called for a person who mends the line.
_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


@dataclass(frozen=True)
class _Check:
    """A keyword: `passes` decides quickly, `explain` names the field and the remedy for a value that fails."""

    passes: Callable[[Any], bool]
    explain: Callable[[str, Any], Iterator[str]]


def validate(record: object) -> list[str]:
    """Return the record's problems, each naming the field and the remedy; an empty list for a good record.

    Beyond the schema, times must be real ones with a zone.
    """
    schema = _compiled()
    return [] if schema.passes(record) else list(schema.explain("", record))


@functools.cache
def _compiled() -> _Check:
    return _compile(json.loads(SCHEMA_FILE.read_text()))


def _compile(schema: Mapping[str, Any]) -> _Check:
    unknown = schema.keys() - _KEYWORDS.keys() - _ANNOTATIONS
    if unknown:
        raise ValueError(
            f"{SCHEMA_FILE.name} uses {sorted(unknown)}, which validation.py does not know: add them there"
        )
    checks = [_KEYWORDS[name](value) for name, value in schema.items() if name in _KEYWORDS]
    return checks[0] if len(checks) == 1 else _all_of(checks)


def _all_of(checks: list[_Check]) -> _Check:
    tests = [check.passes for check in checks]

    def passes(value: Any) -> bool:
        return all(test(value) for test in tests)

    def explain(path: str, value: Any) -> Iterator[str]:
        for check in checks:
            if not check.passes(value):
                yield from check.explain(path, value)

    return _Check(passes, explain)


def _leaf(passes: Callable[[Any], bool], message: Callable[[Any], str]) -> _Check:
    def explain(path: str, value: Any) -> Iterator[str]:
        yield f"{path or 'the line'} {message(value)}"

    return _Check(passes, explain)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _type(expected: str | list[str]) -> _Check:
    names = [expected] if isinstance(expected, str) else expected
    tests = [_TYPES[name] for name in names]
    wanted = " or ".join(_NAMES[name] for name in names)
    return _leaf(
        tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests),
        lambda value: f"must be {wanted}, not {_shown(value)}",
    )


def _enum(choices: list[Any]) -> _Check:
    listed = ", ".join(json.dumps(choice) for choice in choices)
    return _leaf(
        lambda value: any(value == choice and type(value) is type(choice) for choice in choices),
        lambda value: f"is {_shown(value)}: write one of {listed}",
    )


def _required(names: list[str]) -> _Check:
    wanted = set(names)

    def explain(path: str, value: Any) -> Iterator[str]:
        yield from (f"{_join(path, name)} is missing: every record needs it" for name in names if name not in value)

    return _Check(lambda value: not isinstance(value, dict) or wanted <= value.keys(), explain)


def _properties(properties: Mapping[str, Mapping[str, Any]]) -> _Check:
    known = {name: _compile(schema) for name, schema in properties.items() if schema}
    tests = {name: check.passes for name, check in known.items()}

    def passes(value: Any) -> bool:
        return not isinstance(value, dict) or all(tests[name](item) for name, item in value.items() if name in tests)

    def explain(path: str, value: Any) -> Iterator[str]:
        for name, item in value.items():
            if name in known and not known[name].passes(item):
                yield from known[name].explain(_join(path, name), item)

    return _Check(passes, explain)


def _items(schema: Mapping[str, Any]) -> _Check:
    check = _compile(schema)

    def passes(value: Any) -> bool:
        return not isinstance(value, list) or all(map(check.passes, value))

    def explain(path: str, value: Any) -> Iterator[str]:
        for position, item in enumerate(value):
            if not check.passes(item):
                yield from check.explain(f"{path}[{position}]", item)

    return _Check(passes, explain)


def _minimum(least: float) -> _Check:
    return _leaf(
        lambda value: type(value) not in (int, float) or value >= least,
        lambda value: f"is {value}: write {least} or more",
    )


def _maximum(most: float) -> _Check:
    return _leaf(
        lambda value: type(value) not in (int, float) or value <= most,
        lambda value: f"is {value}: write {most} or less",
    )


def _max_properties(most: int) -> _Check:
    return _leaf(
        lambda value: not isinstance(value, dict) or len(value) <= most,
        lambda value: f"has {len(value)} entries: at most {most} are allowed, move others to `extra`",
    )


def _format(name: str) -> _Check:
    if name != "date-time":
        raise ValueError(
            f"{SCHEMA_FILE.name} uses the format {name!r}, which validation.py does not know: add it there"
        )
    return _leaf(
        lambda value: not isinstance(value, str) or _is_time(value),
        lambda value: f"is {_shown(value)}: write it as RFC 3339 in UTC, such as 2026-11-24T09:30:00.125Z",
    )


_KEYWORDS: dict[str, Callable[[Any], _Check]] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "properties": _properties,
    "items": _items,
    "minimum": _minimum,
    "maximum": _maximum,
    "maxProperties": _max_properties,
    "format": _format,
}


def _is_time(text: str) -> bool:
    if _RFC3339.fullmatch(text) is None:
        return False
    try:
        from_rfc3339(text)
    except (ValueError, OverflowError):
        return False
    return True


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
