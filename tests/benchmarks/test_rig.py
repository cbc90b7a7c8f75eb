"""The parts of the benchmarks' rig that think: percentiles, pairs, what the load generator sees in an answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math

import pytest

from benchmarks.rig.client import Client, Load, Tally, dechunked
from benchmarks.rig.load import arrivals, at_share, open_loop, summary
from benchmarks.rig.pairing import differences, ratio
from benchmarks.rig.texts import ANSWER, CHUNKS, END_OF_STREAM, STREAM_HEAD, WORDS, request_body
from benchmarks.rig.upstream import HEAD

STREAM = STREAM_HEAD + b"".join(CHUNKS) + END_OF_STREAM


class Silent(asyncio.Transport):
    """A transport that leads nowhere."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Forget it."""

    def abort(self) -> None:
        """Do nothing."""


def asking(*, stream: bool) -> tuple[Client, Tally]:
    """Return a client whose request is under way."""
    tally = Tally()
    client = Client(tally, stream)
    client.connection_made(Silent())
    client.ask(b"")
    return client, tally


def test_a_percentile_is_one_of_the_values() -> None:
    """Nearest rank; the last value for a share that goes beyond it."""
    assert at_share([3.0, 1.0, 2.0], 0.5) == 2.0
    assert at_share(list(map(float, range(100))), 0.99) == 99.0
    assert at_share([7.0], 0.99) == 7.0


def test_differences_are_taken_within_pairs() -> None:
    """A pair with a run that gave no figure is no pair."""
    assert differences([2.0, None, 5.0], [1.5, 1.0, 7.0]) == [0.5, -2.0]
    with pytest.raises(ValueError, match="zip"):
        differences([1.0], [1.0, 2.0])


def test_the_ratio_knows_its_noise() -> None:
    """A drift that both share is none; one that only one has widens the interval until 1 lies in it."""
    drifting = ratio([99.0, 198.1, 296.9], [100.0, 200.0, 300.0])
    assert drifting.median == pytest.approx(0.99, rel=1e-3)
    assert drifting.low < 0.99 < drifting.high < 1.0
    assert not drifting.is_one_within_noise
    noisy = ratio([90.0, 108.0, 101.0], [100.0, 100.0, 100.0])
    assert noisy.is_one_within_noise
    # Two logarithms of ±0.1: Student's t with one degree of freedom is 12.706, the standard error 0.1.
    two = ratio([math.exp(0.1), math.exp(-0.1)], [1.0, 1.0])
    assert math.log(two.high) == pytest.approx(1.2706, rel=1e-3)


def test_requests_arrive_at_the_rate_and_alike_in_every_run() -> None:
    """A Poisson process: the count within four standard deviations, the gaps as spread as they are long."""
    moments = list(arrivals(100.0, 100.0))
    assert moments == list(arrivals(100.0, 100.0))
    assert moments == sorted(moments)
    assert moments[-1] < 100.0
    assert 9_600 < len(moments) < 10_400
    gaps = [late - early for early, late in itertools.pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(mean, rel=0.1)


@pytest.mark.parametrize("size", [1, 7, 300, len(STREAM)])
async def test_a_stream_is_read_in_whatever_pieces(size: int) -> None:
    """All its chunks are counted, and its end is seen though it is cut in two."""
    client, tally = asking(stream=True)
    for at in range(0, len(STREAM), size):
        client.data_received(STREAM[at : at + size])
    assert [answer.chunks for answer in tally.answers] == [WORDS]
    assert (tally.errors, tally.under_way, tally.most_under_way) == (0, 0, 1)


async def test_the_first_content_is_the_first_word() -> None:
    """Not the chunk that only says who speaks."""
    client, tally = asking(stream=True)
    client.data_received(STREAM_HEAD + CHUNKS[0])
    await asyncio.sleep(0.02)
    client.data_received(CHUNKS[1])
    await asyncio.sleep(0.02)
    client.data_received(b"".join(CHUNKS[2:]) + END_OF_STREAM)
    assert 0.02 <= tally.answers[0].seconds < 0.04


async def test_what_is_no_whole_stream_is_an_error() -> None:
    """An end without [DONE], an answer that is none, a lost connection, one that is given up."""
    for received, words in (
        (STREAM_HEAD + b"".join(CHUNKS[:5]) + b"0\r\n\r\n", "without its end"),
        (b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "500 Oops"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}", "503 Busy"),
    ):
        client, tally = asking(stream=True)
        client.data_received(received)
        assert (tally.errors, tally.answers) == (1, [])
        assert words in tally.first_error
    client, tally = asking(stream=True)
    client.data_received(STREAM_HEAD)
    client.connection_lost(None)
    client.give_up("too late")
    assert tally.errors == 1
    assert "lost" in tally.first_error


async def test_a_whole_answer_ends_with_its_length() -> None:
    """In two pieces as in one."""
    client, tally = asking(stream=False)
    client.data_received(HEAD % len(ANSWER) + ANSWER[:10])
    assert tally.under_way == 1
    client.data_received(ANSWER[10:])
    assert (len(tally.answers), tally.under_way) == (1, 0)


def test_chunks_are_put_together() -> None:
    """Whatever their sizes."""
    assert dechunked(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n") == b"abc0123456789"


async def test_times_before_things_have_settled_do_not_count() -> None:
    """Their answers do."""
    client, tally = asking(stream=True)
    client.data_received(STREAM)
    assert summary(tally, settle_s=10.0)["timed"] == 0
    found = summary(tally)
    assert (found["answers"], found["timed"], found["fewest_chunks"]) == (1, 1, WORDS)
    assert found["p50_ms"] == found["p99_ms"]


async def test_an_open_loop_passes_over_what_the_server_has_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes every connection when it has been idle for a moment costs connections, not requests."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError):
            while await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 0.02):
                await reader.readexactly(len(request_body()))
                writer.write(HEAD % len(ANSWER) + ANSWER)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        monkeypatch.setattr("benchmarks.rig.load.arrivals", lambda _rate, _seconds: [0.0, 0.5, 1.0])
        tally = await open_loop(Load(url, {}), 2.0, 1.5, 1.0)
    assert (tally.errors, len(tally.answers), tally.connections) == (0, 3, 3)


async def test_an_open_loop_gives_up_what_never_ends() -> None:
    """A request without an answer is an error, and the run ends all the same."""

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        tally = await open_loop(Load(url, {}), 50.0, 0.2, 0.1)
    assert tally.errors == len(list(arrivals(50.0, 0.2))) > 0
    assert "no end" in tally.first_error
    assert tally.under_way == 0


def test_keys_and_prompts_take_turns() -> None:
    """Each request has its number's key and words; one without either is always the same."""
    load = Load("http://127.0.0.1:1/v1", {"Authorization": "Bearer none"}, unique=True, keys=("a", "b"))
    third = load.request(3)
    assert b"Authorization: Bearer b\r\n" in third
    assert b"none" not in third
    assert b'"3 My rear wheel' in third
    assert not Load("http://127.0.0.1:1/v1", {}).varies
