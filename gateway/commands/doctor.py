"""`spiritsafe doctor`: is this house well, and what is to be done where it is not?"""

from __future__ import annotations

import dataclasses
import sys
from itertools import chain

import click

from gateway.command import Context, standard_options
from gateway.commands import local_checks, remote_checks
from gateway.commands.finding import Finding, Findings
from gateway.settings import Settings

MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


@click.command()
@click.option("--quiet", is_flag=True, help="Show only what is not right.")
@standard_options
def doctor(context: Context, quiet: bool) -> None:
    """Check settings, files, disk, stores, backends, clocks and certificates, and say what to do.

    Nothing is changed. Status 1 when there is an error; warnings alone end with 0.
    """
    found = [finding for finding in examine(context.settings) if not quiet or finding.state != "ok"]
    if context.json:
        context.emit([dataclasses.asdict(finding) for finding in found])
    else:
        for finding in found:
            click.echo(_line(finding))
    errors = sum(finding.state == "error" for finding in found)
    warnings = sum(finding.state == "warning" for finding in found)
    context.say(f"{errors} errors, {warnings} warnings")
    sys.exit(1 if errors else 0)


def examine(settings: Settings) -> Findings:
    """Return what every check finds, what is nearest first."""
    return chain(
        local_checks.check_python(),
        local_checks.check_settings(settings),
        local_checks.check_data_dir(settings),
        local_checks.check_secret(settings),
        local_checks.check_disk(settings),
        local_checks.check_spool(settings),
        local_checks.check_processes(settings),
        remote_checks.check_database(settings),
        remote_checks.check_limit_store(settings),
        remote_checks.check_backends(settings),
    )


def _line(finding: Finding) -> str:
    text = f"{MARKS[finding.state]} {finding.check}: {finding.subject}: {finding.found}"
    return f"{text}\n        → {finding.remedy}" if finding.remedy else text
