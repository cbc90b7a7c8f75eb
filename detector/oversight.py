"""`spiritsafe detector compare`, `adopt` and `canary`: whether the detector is the right one, and whether it works."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import click

from gateway.command import Context, Duration, standard_options
from gateway.ledger import alerts, canaries, declared_uses, detector_models
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound


@click.command("compare")
@standard_options
def compare(context: Context) -> None:
    """Compare the model in charge with the one in the shadow, up to the detector's last checkpoint."""
    found = _compared(context)
    if context.json:
        context.emit_one(found)
        return
    disagreements = found.pop("disagreements")
    context.emit_one(found)
    if disagreements:
        click.echo()
        context.emit(disagreements)


@click.command("adopt")
@click.option("--previous", is_flag=True, help="Go back to the model that the one in charge replaced.")
@click.option("--force", is_flag=True, help="Although too few account-days were compared; the note says why.")
@click.option("--operator", required=True, help="Whose decision this is.")
@click.option("--note", required=True, help="Why, in a sentence; it is kept.")
@standard_options
def adopt(context: Context, previous: bool, force: bool, operator: str, note: str) -> None:
    """Put the shadow's model in charge; the detector takes it up with the next rows that it reads."""
    # pandas and scikit-learn take a second to load; only these commands need them.
    from detector import comparison, models  # noqa: PLC0415

    found: dict[str, Any] = {}
    if not previous:
        found = _compared(context)
        if not comparison.is_enough(found) and not force:
            raise Forbidden(
                f"{found['account_days']:,} account-days were compared, {comparison.MINIMUM_ACCOUNT_DAYS:,} are asked "
                "for: wait, or say with --force and --note why it can't"
            )
    with context.database.write() as connection:
        charge = models.in_charge(connection)
        if previous:
            model = models.usable(detector_models.previous(connection))
        else:
            shadow = models.in_shadow(context.settings, connection, charge)
            if shadow is None or shadow.id != found["shadow"]:
                raise Forbidden("another model is in the shadow by now than was compared: compare again")
            model = shadow
        detail = {name: value for name, value in found.items() if name != "disagreements"}
        adopted = detector_models.adopt(
            connection, models.kept(model), models.kept(charge), operator, note,
            {"forced": force, "previous": previous, "compared": detail},
        )  # fmt: skip
    context.emit_one({"model": adopted.id, "replaced": adopted.replaced, "operator": operator, "note": note})


@click.command("canary")
@click.option("--account", required=True, help="The canary; made, with an account of its own, at the first run.")
@click.option("--requests", type=click.IntRange(30, 1000), default=200, show_default=True, help="At most so many.")
@click.option("--max-tokens", type=click.IntRange(1, 512), default=48, show_default=True, help="Of each answer.")
@click.option("--within", type=Duration(), default=timedelta(minutes=5), help="How long to wait for the alert [5m].")
@click.option("--url", default="", help="The endpoint's address [gateway.host and gateway.port].")
@standard_options
def canary(context: Context, account: str, requests: int, max_tokens: int, within: timedelta, url: str) -> None:
    """Harvest a little through the endpoint, from an account of our own; status 1 where no alert comes of it."""
    from detector.canary import Run, endpoint  # noqa: PLC0415

    run = Run(
        context.settings, context.database, account, requests, max_tokens, within, url or endpoint(context.settings)
    )
    found = run.fly(context.actor)
    context.emit_one(vars(found))
    if found.problem is not None:
        context.say(f"No alert came of it: {found.problem}. The runbook is docs/runbooks/canary-missed.md.")
        sys.exit(1)


def _compared(context: Context) -> dict[str, Any]:
    from detector import checkpoint, comparison, models  # noqa: PLC0415
    from detector.watch import Watch  # noqa: PLC0415
    from gateway.ledger.lake import Lake  # noqa: PLC0415

    settings = context.settings
    if not settings.detector.shadow_model:
        raise InvalidValue(
            "no model runs in the shadow: name its file as `detector.shadow_model`, and start the detector"
        )
    with context.database.read() as connection:
        charge = models.in_charge(connection)
        shadow = models.in_shadow(settings, connection, charge)
        closed = [each for each in alerts.every(connection) if each.state != "open" and not each.of_canary]
        uses, own = declared_uses.every(connection), canaries.names(connection)
    watch = Watch(settings.detector.minimum_requests, uses, charge, shadow=shadow)
    watch.canaries = frozenset(own)
    if checkpoint.resume(settings.data_dir / "detector" / "state", watch) < 0:
        raise NotFound("the detector has kept nothing yet: it does every minute while rows come in")
    watch.forget(list(Lake.of(settings).storage.hidden()))
    return comparison.compare(watch, {each.account: each for each in reversed(closed)})
