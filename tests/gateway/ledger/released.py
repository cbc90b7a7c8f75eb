"""Rows as each released schema kept them, to be brought forward by whatever migrations come after."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

Rows = dict[str, list[dict[str, Any]]]

_KEYS: list[dict[str, Any]] = [
    {"id": "k1", "account": "app", "hash": b"\x00\xff", "hint": "abcd", "created": 1000, "requests_per_minute": 60},
    {"id": "k2", "account": "other", "hash": b"\x01", "hint": "efgh", "created": 2000, "revoked": 3000},
]
# What a schema has that the one before has not: rows of its new tables, and new columns' values by table and id.
ROWS: dict[str, Rows] = {
    "0001": {
        "accounts": [
            {"name": "app", "created": 1, "tier": "pro", "operator": True, "payment": "p", "signup_network": "n"},
            {"name": "other", "created": 2, "tier": "default", "operator": False, "labels": '{"kind":"ü"}'},
        ],
        "keys": _KEYS,
        "consents": [
            {"id": "c1", "account": "app", "purpose": "training", "version": "1", "granted": 5},
            {"id": "c2", "account": "other", "purpose": "training", "version": "1", "granted": 5, "withdrawn": 6},
        ],
        "declared_uses": [
            {"id": "u1", "account": "app", "use": "evaluation", "cap_per_day": 5, "until": 4102444800000, "created": 7}
        ],
        "enforcement": [
            {
                "id": "e1", "account": "other", "action": "suspend", "created": 8, "until": 4102444800000,
                "operator": "mara", "note": "harvests", "alert": "a1",
            },
            {
                "id": "e2", "account": "app", "action": "suspend", "created": 8, "until": 9, "operator": "mara",
                "note": "a mistake", "cleared": 9,
            },
        ],
        "alerts": [
            {
                "id": "a1", "account": "other", "severity": "high", "score": 0.1 + 0.2, "state": "confirmed",
                "opened": 10, "updated": 11, "reasons": '[{"text":"ü"}]', "evidence": '{"daily":[]}', "decided": 11,
                "decision": "suspend", "operator": "mara", "note": "harvests",
            }
        ],
        "operators": [{"name": "mara", "password_hash": "$argon2id$", "token_hash": b"\x02", "created": 12}],
        "snapshots": [
            {
                "hash": "ab" * 32, "task": "labels", "endpoint": "completions", "skeleton": "5e", "path": "/s",
                "created": 13, "requested_by": "joel", "report": '{"rows":{"train":1}}',
            }
        ],
        "approvals": [
            {"snapshot": "ab" * 32, "approver": "mara", "requested_by": "joel", "time": 14, "note": "looked at it"}
        ],
        "registry": [
            {
                "name": "labels", "version": 1, "task": "labels", "endpoint": "completions", "skeleton": "5e",
                "snapshot": "ab" * 32, "teacher": "teacher", "path": "/m", "state": "promoted", "created": 15,
                "parameters": 2**40, "context_length": 2048, "licence": "Apache-2.0", "training": "{}",
                "gate": '{"verdict":"passed"}', "input_price": 380, "output_price": 1140, "price_basis": "measured",
                "promoted_by": "mara",
            }
        ],
        "audit": [
            {"id": "r3", "time": 30, "actor": "mara", "action": "fleet.drain", "subject": "u", "detail": '{"note":""}'},
            {"id": "r1", "time": 20, "actor": "cli:root", "action": "account.create", "subject": "app", "detail": "{}"},
            {
                "id": "r2", "time": 20, "actor": "mara", "action": "enforce.suspend", "subject": "other",
                "detail": '{"alert":"a1","note":"harvests ü"}',
            },
            {
                "id": "r4", "time": 40, "actor": "mara", "action": "prompts.reveal", "subject": "other",
                "detail": '{"place":"a1","reason":"to read them","records":["x"]}',
            },
        ],
    },
    "0002": {
        "keys": [
            _KEYS[0] | {"family": "k1", "secret_name": "5ec4e7", "scope": '{"models":["teacher"]}'},
            _KEYS[1] | {"family": "k2", "expires": 2500},
        ]
    },
    "0003": {
        "limits": [{"subject": "account", "name": "app", "rpm": 7, "usd_day": 2**52, "lane": "batch", "updated": 16}]
    },
    "0004": {"drains": [{"url": "http://10.0.0.1:8000", "created": 17, "operator": "mara", "note": "new driver"}]},
    "0005": {
        "audit": [
            {
                "number": 1, "id": "r1", "time": 20, "actor": "cli:root", "action": "account.create", "subject": "app",
                "detail": "{}", "hash": "1626dd72dd78a3dd46c5a40074ffb69a34deb80606fc0a3f620ea896d4cb3e06",
            },
            {
                "number": 2, "id": "r2", "time": 20, "actor": "mara", "action": "enforce.suspend", "subject": "other",
                "detail": '{"alert":"a1","note":"harvests ü"}', "reason": "harvests ü",
                "hash": "7270e4e17470ff75610846788cc1a06b4148f99aa0759eae1abf027cdd9e507e",
            },
            {
                "number": 3, "id": "r3", "time": 30, "actor": "mara", "action": "fleet.drain", "subject": "u",
                "detail": '{"note":""}', "hash": "9821a2796c3b8c7547a6ecc119d73fe6fa18dcfdf545ded508e79b8e544cdd96",
            },
            {
                "number": 4, "id": "r4", "time": 40, "actor": "mara", "action": "prompts.reveal", "subject": "other",
                "detail": '{"place":"a1","reason":"to read them","records":["x"]}', "reason": "to read them",
                "hash": "27b312ba12d4eb3fbf0f7def6362278605afe412f2c65d120f4468b252eecc5b",
            },
        ],
        "audit_head": [
            {"id": 1, "number": 4, "hash": "27b312ba12d4eb3fbf0f7def6362278605afe412f2c65d120f4468b252eecc5b"}
        ],
    },
    "0006": {
        "accounts": [
            {
                "name": "app", "created": 1, "tier": "pro", "operator": True, "payment": "p", "signup_network": "n",
                "keep_text": False,
            },
            {"name": "other", "created": 2, "tier": "default", "operator": False, "labels": '{"kind":"ü"}'},
        ],
        "retention": [{"account": "app", "model": "", "text_days": 7, "updated": 18}],
        "holds": [{"id": "h1", "account": "other", "operator": "mara", "note": "case 7", "placed": 19}],
        "erasures": [{"id": "x1", "account": "gone", "kind": "erasure", "actor": "mara", "begun": 20, "rows": 5}],
        "marks": [{"erasure": "x1", "kind": "student", "reference": "labels@1", "rows": 5}],
    },
    "0007": {
        "appeals": [
            {"id": "p1", "alert": "a1", "account": "other", "created": 21, "operator": "mara", "note": "they wrote"}
        ],
    },
    "0008": {
        "opt_outs": [{"account": "app", "user": "u-17", "time": 22, "actor": "mara"}],
        "approvals": [
            {
                "snapshot": "ab" * 32, "approver": "mara", "requested_by": "joel", "time": 14, "note": "looked at it",
            }
        ],
    },
    "0009": {
        "detector_models": [{"id": "m1", "content": b"\x03", "adopted": 23, "operator": "mara", "note": "finds more"}],
        "canaries": [{"account": "other", "created": 24, "ran": 25, "found": 25, "requests": 117, "seconds": 31.5}],
    },
}  # fmt: skip


def rows_of(version: str) -> Rows:
    """Return the rows of a schema by table; a `KeyError` asks whoever adds a migration for the schema's rows."""
    found: Rows = {}
    for known in sorted(ROWS):
        found |= ROWS[known] if known <= version else {}
    return found | ROWS[version]


def insert(connection: sa.Connection, rows: Rows) -> None:
    """Write rows into a database of their schema."""
    tables = sa.MetaData()
    tables.reflect(connection)
    for table in tables.sorted_tables:
        if table.name == "audit_head":  # its one row is there from the beginning
            connection.execute(sa.delete(table))
        for row in rows.get(table.name, []):
            connection.execute(sa.insert(table).values(**row))
