"""The site is made once for all tests of partitions; each cuts it and sees it heal."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gateway.protocol import listener
from tests.gateway.partitions.site import HOSTS, LOST_S, Site, running_site, soon
from tests.network import network


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str, str], str]) -> Iterator[Site]:
    """All hosts with their servers; skips where this process may make no network namespaces."""
    require_program("ip", "iproute2")
    with ExitStack() as stack:
        try:
            hosts = stack.enter_context(network(*HOSTS))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EROFS):
                raise
            pytest.skip(f"needs network namespaces, which only root may make: {error}")
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setattr(listener, "LOST_S", LOST_S)
        yield stack.enter_context(running_site(hosts, tmp_path_factory.mktemp("site")))


@pytest.fixture(params=["a", "b"])
def cut(request: pytest.FixtureRequest) -> str:
    """The gateway that is cut off: each in turn."""
    host: str = request.param
    return host


@pytest.fixture(autouse=True)
def healed(site: Site) -> Iterator[None]:
    """See that all is well again after each test."""
    yield
    soon(site.healed)
