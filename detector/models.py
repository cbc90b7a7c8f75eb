"""Which models the service runs: the one in charge, as the control plane says, and the one in its shadow.

The shadow is the file that `detector.shadow_model` names. Once that is in charge itself the one that it replaced runs
on in the shadow, so that going back loses nothing.
"""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass

import sqlalchemy as sa

from detector import scoring
from detector.scoring import Model
from gateway.ledger import detector_models
from gateway.ledger.detector_models import DetectorModel
from gateway.ledger.errors import InvalidValue
from gateway.settings import Settings

SHIPPED = "shipped"  # as `shadow_model`
UNREADABLE = (ValueError, KeyError, OSError, zipfile.BadZipFile)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Models:
    """The model in charge and the one in the shadow, where there is one."""

    charge: Model
    shadow: Model | None


def running(settings: Settings, connection: sa.Connection) -> Models:
    """Return the models to run. What can't be read is logged and does without: the shipped one, or no shadow.

    A detector that does not start finds nobody.
    """
    charge = in_charge(connection)
    try:
        return Models(charge, in_shadow(settings, connection, charge))
    except InvalidValue as error:
        logger.error("%s; no model runs in the shadow", error)
        return Models(charge, None)


def in_charge(connection: sa.Connection) -> Model:
    """Return the model that was adopted last, or the shipped one."""
    adopted = detector_models.in_charge(connection)
    if adopted is None:
        return scoring.shipped()
    try:
        return scoring.read(adopted.content)
    except UNREADABLE as error:
        logger.error("the adopted model %s can't be used (%s): the shipped one is in charge", adopted.id, error)
        return scoring.shipped()


def in_shadow(settings: Settings, connection: sa.Connection, charge: Model) -> Model | None:
    """Return the model to run beside the one in charge; `InvalidValue` where its file can't be used."""
    wanted = settings.detector.shadow_model
    if not wanted:
        return None
    model = _read(settings, wanted)
    if model.id != charge.id:
        return model
    adopted = detector_models.in_charge(connection)
    if adopted is None or adopted.id != charge.id or adopted.replaced is None:
        return None
    return usable(detector_models.get(connection, adopted.replaced))


def usable(kept: DetectorModel) -> Model:
    """Return a model that the control plane keeps; `InvalidValue` where this release can't use it."""
    try:
        return scoring.read(kept.content)
    except UNREADABLE as error:
        raise InvalidValue(f"model {kept.id} can't be used any more: {error}") from None


def kept(model: Model) -> DetectorModel:
    """Return a model as the control plane keeps it."""
    return DetectorModel(model.id, model.to_bytes())


def _read(settings: Settings, name: str) -> Model:
    if name == SHIPPED:
        return scoring.shipped()
    path = settings.base_dir / name
    try:
        return scoring.read(path.read_bytes())
    except UNREADABLE as error:
        raise InvalidValue(
            f"detector.shadow_model: {path} can't be used: {error}; `spiritsafe detector fit --out {path}` makes one"
        ) from None
