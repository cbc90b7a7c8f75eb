"""Hosts of a test's own, as network namespaces, and a network between them in which packets can be made to vanish.

Each host has one address and hangs on a router by a link; what is cut is dropped by the router, so that neither end is
told. Nothing has a name outside this process: all of it is gone when the process is, however it ends.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # of <sched.h>; Python has it, and setns, from 3.12 on
_LIBC = ctypes.CDLL(None, use_errno=True)
_HERE = "/proc/thread-self/ns/net"
_ROUTER = "router"


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """The hosts and who reaches whom; made by `network`. Addresses are of the range for such tests (RFC 2544)."""

    def __init__(self, hosts: Sequence[str], resources: ExitStack) -> None:
        self._resources = resources
        self._addresses = {host: f"198.18.0.{number}" for number, host in enumerate(hosts, 1)}
        self._namespaces = {host: self._make_namespace() for host in (_ROUTER, *hosts)}
        with self.inside(_ROUTER):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for host in hosts:
            self._connect(host)

    def address(self, host: str) -> str:
        """Return a host's address, which is known on all of them."""
        return self._addresses[host]

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Be on that host inside the block: this thread's new sockets are, and the processes and threads it starts."""
        before = os.open(_HERE, os.O_RDONLY)
        try:
            self._enter(self._namespaces[host])
            yield
        finally:
            self._enter(before)
            os.close(before)

    @contextmanager
    def partition(self, one: str, other: str) -> Iterator[None]:
        """Let every packet between the two vanish inside the block; all others pass."""
        ways = [("from", self.address(one), "to", self.address(other))]
        ways.append(("from", self.address(other), "to", self.address(one)))
        self._rule("add", ways)
        try:
            yield
        finally:
            self._rule("del", ways)

    def _rule(self, change: str, ways: Sequence[Sequence[str]]) -> None:
        with self.inside(_ROUTER):
            for way in ways:
                _ip("rule", change, *way, "blackhole")

    def _make_namespace(self) -> int:
        before = os.open(_HERE, os.O_RDONLY)
        try:
            _check(_LIBC.unshare(_CLONE_NEWNET), "unshare")
            made = os.open(_HERE, os.O_RDONLY)
            self._resources.callback(os.close, made)
            _ip("link", "set", "dev", "lo", "up")
            return made
        finally:
            self._enter(before)
            os.close(before)

    def _enter(self, namespace: int) -> None:
        _check(_LIBC.setns(namespace, _CLONE_NEWNET), "setns")

    def _connect(self, host: str) -> None:
        address = self.address(host)
        with self.inside(_ROUTER):
            # The peer is made here and moved by its namespace's descriptor, which needs no name of it.
            there = f"/proc/{os.getpid()}/fd/{self._namespaces[host]}"
            _ip("link", "add", "name", host, "type", "veth", "peer", "name", "eth0", "netns", there)
            _ip("link", "set", "dev", host, "up")
            _ip("address", "add", "198.18.1.1/32", "dev", host)
            _ip("route", "add", address, "dev", host)
        with self.inside(host):
            _ip("address", "add", address, "dev", "eth0")
            _ip("link", "set", "dev", "eth0", "up")
            _ip("route", "add", "198.18.1.1", "dev", "eth0")
            _ip("route", "add", "default", "via", "198.18.1.1", "src", address)


@contextmanager
def network(*hosts: str) -> Iterator[Network]:
    """Make the hosts inside the block; `OSError` where this process may not."""
    with ExitStack() as resources:
        yield Network(hosts, resources)
