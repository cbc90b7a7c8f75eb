"""The `spiritsafe` command: the gateway's own sub-commands and those that other packages contribute.

A sub-command's module is imported when it is used, so that `spiritsafe --help` and the quick commands stay quick. Other
packages contribute through the entry point group `spiritsafe.commands`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points

import click

GROUP = "spiritsafe.commands"

# name → where the click command is, and what it does in one line
BUILT_IN = {
    "up": ("gateway.commands.house:up", "Run the whole house on this machine until Ctrl-C."),
    "gateway": ("gateway.commands.gateway:gateway", "Run the public endpoint alone."),
    "ingester": ("gateway.commands.ingester:ingester", "Bring spooled records into the lake."),
    "operator": ("gateway.commands.operators:operator", "Run the operator process: console, admin API, metrics."),
    "operators": ("gateway.commands.operators:operators", "Create and list the people who decide."),
    "accounts": ("gateway.commands.accounts:accounts", "Create, list and import accounts; what is kept of them."),
    "erase": ("gateway.commands.erase:erase", "Remove everything of an account, with a receipt."),
    "keys": ("gateway.commands.keys:keys", "Create, list, rotate, expire and revoke API keys."),
    "backup": ("gateway.commands.backup:backup", "Copy the control plane and the secret."),
    "restore": ("gateway.commands.backup:restore", "Put a backup in the place of the control plane."),
    "audit": ("gateway.commands.audit:audit", "List and verify what was done, by whom and why."),
    "limits": ("gateway.commands.limits:limits", "Set, list and clear what accounts, keys and models may use."),
    "models": ("gateway.commands.models:models", "List, promote and roll back models."),
    "config": ("gateway.commands.config:config", "Have the running gateway take over a changed settings file."),
    "doctor": ("gateway.commands.doctor:doctor", "Check the house, and say what to do."),
    "fleet": ("gateway.commands.fleet:fleet", "List and drain the models' servers."),
    "enforce": ("gateway.commands.enforce:enforce", "Take a step against accounts, try it first, undo it."),
    "policies": ("gateway.commands.policies:policies", "Which alerts put a mild step in force at once."),
    "traffic": ("gateway.commands.traffic:traffic", "Watch, verify, import, export and maintain traffic records."),
}
# What `up` starts for the processes of other packages; people have no use for it.
HIDDEN = {"process": "gateway.commands.house:process"}


class Commands(MutableMapping[str, click.Command]):
    """The sub-commands by name, each imported when it is looked up; iterating imports nothing."""

    def __getitem__(self, name: str) -> click.Command:
        point = self.entry_points()[name]
        command = point.load()
        if not isinstance(command, click.Command):
            raise click.ClickException(f"{point.value} of the group {GROUP} is no click command: mend its entry point")
        return command

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.entry_points() if name not in HIDDEN)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.entry_points()

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError(f"{name}: sub-commands are declared in BUILT_IN or by entry points")

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: sub-commands are declared in BUILT_IN or by entry points")

    def entry_points(self) -> dict[str, EntryPoint]:
        """Return where each sub-command is, those of other packages included; the gateway's own names win."""
        places = {name: place for name, (place, _) in BUILT_IN.items()} | HIDDEN
        own = {name: EntryPoint(name, place, GROUP) for name, place in places.items()}
        return {point.name: point for point in entry_points(group=GROUP)} | own


class LazyGroup(click.Group):
    """A group whose help lists the sub-commands without importing them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each sub-command's name and what it does."""
        rows = []
        for name in sorted(self.commands):
            _, text = BUILT_IN.get(name, ("", f"See `spiritsafe {name} --help`."))
            rows.append((name, text))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    commands=Commands(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="spiritsafe", prog_name="spiritsafe")
def main() -> None:
    """Spiritsafe: one endpoint for models, traffic in full view, students from what may be learnt from.

    Data goes to stdout, logs and remarks to stderr. Every command takes --config FILE and --json.
    """


def run() -> None:
    """Run the command line as a process of its own, and end it.

    pyarrow's threads call into Python (deltalake reads files there), and one that does so while the interpreter is
    being taken down aborts the process with SIGABRT or hangs it: with pyarrow loaded the process ends before that.
    """
    status = 0
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            click.echo(ended.code, err=True)
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    if "pyarrow" not in sys.modules:
        sys.exit(status)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a reader that has gone
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
