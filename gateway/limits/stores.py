"""Which store the settings ask for."""

from __future__ import annotations

import importlib

from gateway.limits.leases import LeaseStore
from gateway.limits.shared import SharedStore
from gateway.settings import Settings, SettingsError

LIFETIME_MARGIN_S = 60.0


def lifetime_s(settings: Settings) -> float:
    """Return how long a reservation may last: longer than the longest request."""
    return settings.longest_request_s + LIFETIME_MARGIN_S


def open_store(settings: Settings) -> LeaseStore:
    """Open the store; `SettingsError` where Valkey's client is not installed, `OSError` where the disk refuses."""
    limits, workers = settings.limits, settings.gateway.workers
    if not limits.store:
        return SharedStore(settings.data_dir / "limits", workers)
    try:
        # Who counts on one machine needs no client of Valkey's.
        valkey = importlib.import_module("gateway.limits.valkey")
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"limits.store needs Valkey's client ({error}): pip install 'spiritsafe[valkey]'"
        ) from error
    store: LeaseStore = valkey.ValkeyStore(
        limits.store, lasts_s=lifetime_s(settings), timeout_s=limits.store_timeout_s, gateways=workers
    )
    return store
