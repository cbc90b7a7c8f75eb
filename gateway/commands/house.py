"""`spiritsafe up`: the whole house on one machine."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import click

from gateway import logs
from gateway.command import Context, standard_options
from gateway.house import House, HouseError
from gateway.house.narrator import Narrator
from gateway.house.plan import GROUP
from gateway.settings import Settings, ensure_file


@click.command()
@standard_options
def up(context: Context) -> None:
    """Run the whole house until Ctrl-C: gateway, ingester, detector, operator process and models.

    Without a settings file it writes one with the defaults. With --json each change of a process is a line on stdout.
    """
    logs.configure("house")
    _say_assumptions(context)
    try:
        House(context.settings, Narrator(context.say, click.echo if context.json else None)).run()
    except HouseError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


@click.command(hidden=True)
@click.argument("name")
@click.option("--config", type=click.Path(path_type=Path), default=None)
@click.pass_context
def process(ctx: click.Context, name: str, config: Path | None) -> None:
    """Run the process NAME that another package contributes: its entry point holds the command's arguments."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise click.ClickException(f"no entry point {name!r} in the group {GROUP}: install the package that brings it")
    arguments = [str(argument) for argument in next(iter(found)).load()]
    options = [] if config is None else ["--config", str(config)]
    root = ctx.find_root().command
    # The contributed command runs in this very process, so that the house's signals reach it.
    root.main([*arguments, *options], prog_name="spiritsafe")


def _say_assumptions(context: Context) -> None:
    settings = context.settings
    if ensure_file(settings):
        context.say(f"No settings file was found, so {settings.file} was written with the defaults:")
    else:
        context.say(f"Settings: {settings.file}")
    context.say(f"  everything is written to {settings.data_dir}")
    for line in _models(settings):
        context.say(f"  {line}")


def _models(settings: Settings) -> list[str]:
    lines = []
    for model in settings.models:
        served = "" if model.serve is None else f" (served here from {model.serve.path})"
        place = ", ".join(model.urls) or model.provider
        lines.append(f"{model.role} {model.name!r} is expected at {place}{served}")
    return lines
