"""A load generator that costs little: a fixed number of connections, each with one request under way.

`python -m benchmarks.rig.load URL` prints one JSON object. With `--rate` it is an open loop: requests start by the
clock, whether or not earlier ones have ended, so that a slow server can't hide its queue; the moments are those of a
Poisson process, the same in every run.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks.rig.client import Client, Load, Tally

SEED = 20261124


async def closed_loop(
    load: Load, connections: int, seconds: float, most: int | None, *, first: int = 0, ramp_s: float = 0.0
) -> Tally:
    """Keep every connection busy for that long, or until `most` requests were sent; they open within `ramp_s`."""
    tally = Tally()
    request = load.request(first)
    sent = 0

    async def work(number: int) -> None:
        nonlocal sent
        await asyncio.sleep(ramp_s * number / connections)
        client = await load.connect(tally)
        while time.perf_counter() - tally.start < seconds and (most is None or sent < most):
            sent += 1
            await client.ask(load.request(first + sent) if load.varies else request)
            if client.transport.is_closing():
                client = await load.connect(tally)
        client.transport.close()

    await asyncio.gather(*(work(number) for number in range(connections)))
    return tally


async def open_loop(load: Load, rate: float, seconds: float, drain_s: float) -> Tally:
    """Start `rate` requests a second, on connections that are free or new; then wait `drain_s` for the last."""
    tally = Tally()
    free: list[Client] = []
    busy: set[Client] = set()
    request = load.request(0)

    async def one(number: int) -> None:
        while free and free[-1].transport.is_closing():  # the server has closed it for having been idle
            free.pop()
        client = free.pop() if free else await load.connect(tally)
        busy.add(client)
        await client.ask(load.request(number) if load.varies else request)
        busy.discard(client)
        if not client.transport.is_closing():
            free.append(client)

    tasks: list[asyncio.Task[None]] = []
    for number, moment in enumerate(arrivals(rate, seconds)):
        await asyncio.sleep(max(0.0, tally.start + moment - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    if tasks:
        await asyncio.wait(tasks, timeout=drain_s)
    for client in list(busy):
        client.give_up(f"no end {drain_s:g} s after the last request was sent")
    await asyncio.gather(*tasks)
    return tally


def arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Yield the moments at which requests start."""
    chance = random.Random(SEED)
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)


def at_share(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies (nearest rank, upwards)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(tally: Tally, settle_s: float = 0.0) -> dict[str, Any]:
    """Return the figures of a run; the times are of requests sent after `settle_s`, in milliseconds."""
    seconds = [answer.seconds for answer in tally.answers if answer.asked - tally.start >= settle_s]
    chunks = [answer.chunks for answer in tally.answers]

    def milliseconds(share: float) -> float | None:
        return round(at_share(seconds, share) * 1000, 3) if seconds else None

    return {
        "answers": len(tally.answers),
        "errors": tally.errors,
        "first_error": tally.first_error,
        "wall_s": round(time.perf_counter() - tally.start, 3),
        "timed": len(seconds),
        "p50_ms": milliseconds(0.5),
        "p99_ms": milliseconds(0.99),
        "chunks": sum(chunks),
        "fewest_chunks": min(chunks, default=0),
        "most_under_way": tally.most_under_way,
        "connections": tally.connections,
        "client_cpu_s": round(time.process_time() - tally.start_cpu, 3),
    }


@click.command()
@click.argument("url")
@click.option("--header", "headers", multiple=True, help="NAME: VALUE, for every request.")
@click.option("--keys", "keys_file", type=click.Path(path_type=Path), help="A file of API keys that take turns.")
@click.option("--connections", default=32)
@click.option("--ramp", "ramp_s", default=0.0, help="Seconds in which the connections are opened.")
@click.option("--seconds", default=5.0)
@click.option("--requests", "most", type=int, default=None, help="Stop after that many.")
@click.option("--first", default=0, help="The number of the first request, of which --unique and --keys make use.")
@click.option("--rate", type=float, default=None, help="Requests a second, in an open loop.")
@click.option("--settle", "settle_s", default=0.0, help="Leave the times of the first seconds out.")
@click.option("--drain", "drain_s", default=60.0, help="Seconds after which a request of an open loop has failed.")
@click.option("--stream", is_flag=True)
@click.option("--unique", is_flag=True, help="Make every prompt another.")
@click.option("--tokens", type=int, default=None, help="How many tokens a real model shall generate.")
def main(
    url: str,
    headers: tuple[str, ...],
    keys_file: Path | None,
    connections: int,
    ramp_s: float,
    seconds: float,
    most: int | None,
    first: int,
    rate: float | None,
    settle_s: float,
    drain_s: float,
    stream: bool,
    unique: bool,
    tokens: int | None,
) -> None:
    """Send requests and print what came back."""
    pairs = dict(header.split(": ", 1) for header in headers)
    keys = tuple(keys_file.read_text().split()) if keys_file is not None else ()
    load = Load(url, pairs, stream, unique, keys, tokens)
    if rate is None:
        run = closed_loop(load, connections, seconds, most, first=first, ramp_s=ramp_s)
    else:
        run = open_loop(load, rate, seconds, drain_s)
    print(json.dumps(summary(uvloop.run(run), settle_s)))


if __name__ == "__main__":
    main()
