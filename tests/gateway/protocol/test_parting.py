"""A worker that ends lets nobody's request fall."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
import uvloop

from gateway.protocol.call import Call
from gateway.protocol.listener import GatewayProtocol, PartingState

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def _answer(call: Call) -> None:
    call.answer(200, b"", b"{}")


async def _nothing(scope: object, receive: object, send: object) -> None: ...


async def _part(*, sends: bool) -> tuple[bytes, bytes]:
    """Serve one request, then close the connection; return both answers of a client that sends in that very turn."""
    state, loop = PartingState(), asyncio.get_running_loop()
    config = uvicorn.Config(_nothing, lifespan="off")
    ours, client = socket.socketpair()
    client.setblocking(False)
    ours.setblocking(False)
    with client:
        _transport, protocol = await loop.connect_accepted_socket(
            lambda: GatewayProtocol(lambda method, path: _answer, config=config, server_state=state, app_state={}), ours
        )
        await loop.sock_sendall(client, REQUEST)
        first = await loop.sock_recv(client, 65536)
        state.parting = True
        if sends:
            client.send(REQUEST)
        protocol._leave(0)
        return first, client.recv(65536) if not sends else await loop.sock_recv(client, 65536)


def test_a_request_that_the_loop_has_not_read_yet_is_answered() -> None:
    """Its connection was about to be closed: the answer says so now."""
    first, second = uvloop.run(_part(sends=True))
    assert (first[:15], second[:15]) == (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK")
    assert (b"connection: close" in first.lower(), b"connection: close" in second.lower()) == (False, True)


def test_a_connection_without_a_request_is_closed() -> None:
    """Nothing comes, so its end is sent at once: the loop's next turn may be late."""
    assert uvloop.run(_part(sends=False))[1] == b""
