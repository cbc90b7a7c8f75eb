"""The model card of a proven student, in Hugging Face's form (a README.md with front matter) beside its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from distiller.fixed_rules import rule_of
from distiller.slices import staying
from distiller.snapshot import Frozen, verify
from gateway.ledger import approvals, audit, registry, snapshots
from gateway.ledger.database import Database
from gateway.ledger.errors import Forbidden
from gateway.ledger.registry import Student


def publish(database: Database, reference: str, actor: str) -> Path:
    """Write the card of a candidate or promoted student and return its file; `Forbidden` for any other state."""
    with database.write() as connection:
        student = registry.get(connection, reference)
        if student.state not in ("candidate", "promoted"):
            raise Forbidden(
                f"{student.reference} is {student.state}: only a student that passed the gate is published "
                f"(`spiritsafe distill evaluate {student.reference}`)"
            )
        frozen, approver = _origin(connection, student)
        file = Path(student.path) / "README.md"
        building = file.with_name(f".{file.name}.{os.getpid()}")
        building.write_text(card(student, frozen, approver), encoding="utf-8")
        os.replace(building, file)
        audit.record(connection, actor, "student.publish", student.reference, card=str(file))
    return file


def _origin(connection: sa.Connection, student: Student) -> tuple[Frozen, str]:
    snapshot = snapshots.get(connection, student.snapshot)
    approvers = [approval.approver for approval in approvals.of(connection, snapshot.hash)]
    return verify(Path(snapshot.path), snapshot.hash), " and ".join(approvers) or "nobody"


def card(student: Student, frozen: Frozen, approver: str) -> str:
    """Return the card's text."""
    gate = student.gate or {}
    training = student.training
    manifest = frozen.manifest
    rule = rule_of(student)
    rows = manifest["report"]["rows"]
    consents = "\n".join(
        f"- `{account}`: {manifest['report']['accounts'][account]} rows, consent to {consent['purpose']} "
        f"version {consent['version']}, given {consent['granted']}"
        for account, consent in manifest["consents"].items()
    )
    return f"""---
license: {student.licence.lower()}
base_model: {student.teacher}
library_name: transformers
tags: [distillation, spiritsafe]
---
# {student.reference}

A student of `{student.teacher}` for one task, `{student.task}`: {student.parameters / 1e6:.1f} million parameters,
{training["layers"]} of the teacher's layers, trained on the teacher's answers.

## Intended use
Requests of `{student.endpoint}` with the prompt skeleton `{student.skeleton}`, and no others. `auto` sends it such a
request only when its last user message lies within the distance that held 95 % of the {rows["calibration"]} calibration
rows (threshold {training["adequacy_threshold"]:.3f}); anything else goes to the teacher.{_protected(gate)}

## What it learnt from
{rows["train"]} rows of snapshot `{student.snapshot}`, which names every row and its hash. Approved by {approver}.
Whose rows they are, and by which right:

{consents}

Personal data with a recognisable form was replaced by placeholders before training; that finds much and not everything.
The teacher's licence is {student.licence or "not stated"}; it allows training on its answers.

## How it was proven
{_sentence(gate)} Measured as {gate["measure"]}, on requests newer than all that it learnt from.

{_gate_table(gate)}

Method: {gate["method"]}, margin {gate["margin"]:.0%} and α {rule.alpha:.3g} for {rule.attempts} attempts fixed before
training, of which this test spent {gate["alpha"]:.3g}.
McNemar's exact p is {gate["mcnemar_p"]:.3g}. Price: {student.price_basis}.

## How it was trained
{_settings_table(training)}
"""


def _protected(gate: dict[str, Any]) -> str:
    kept = ", ".join(f"`{name}`" for name in staying(gate))
    return f" Requests with {kept} in their metadata stay with the teacher, unproven." if kept else ""


def _sentence(gate: dict[str, Any]) -> str:
    verdict = str(gate["verdict"])
    return f"{verdict[:1].upper()}{verdict[1:]}."


def _gate_table(gate: dict[str, Any]) -> str:
    lines = ["| | right | share | interval | tokens/s, 1 stream | 8 streams |", "|---|---|---|---|---|---|"]
    for who in ("teacher", "student"):
        share = gate[who]
        speeds = [f"{gate[f'{who}_tokens_per_second_{streams}']:g}" for streams in (1, 8)]
        counts = (
            f"{share['correct']} of {share['of']} | {share['share']:.1%} | {share['low']:.1%} to {share['high']:.1%}"
        )
        lines.append(f"| {who} | {counts} | {' | '.join(speeds)} |")
    return "\n".join(lines)


def _settings_table(training: dict[str, Any]) -> str:
    names = ("layers", "epochs", "batch_size", "learning_rate", "seed", "seconds", "loss_first", "loss_last")
    lines = [f"| {name} | {training[name]} |" for name in names if training.get(name) is not None]
    return "\n".join(["| setting | value |", "|---|---|", *lines, f"| weights | `{training['weights_sha256']}` |"])
