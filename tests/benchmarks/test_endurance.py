"""The endurance run: its judgement with made-up outcomes, its parts, and a short run of the whole."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import endurance
from benchmarks.rig import disturbances, memory
from benchmarks.rig.reconciliation import Asked, Death, Ending, Row, Sent, reconcile
from benchmarks.rig.texts import ANSWER, CHUNKS
from benchmarks.rig.witness import Witness, note

EXACT = {"whole": (210, 120, "exact"), "stream": (210, 100, "exact")}
KILL = Death("w0", "killed", 99.0, 99.5, frozenset({4001}))


def sent(
    name: str, ending: Ending, status: int = 200, code: str = "", *, asked: Asked = "whole", port: int = 4000
) -> Sent:
    """A request of the seconds 98 to 100, on a connection that was opened long before."""
    return Sent(name, asked, 98.0, 100.0, ending, status, code, port, 50.0, 50.1)


def row(name: str, status: int = 200, error: str = "", usage: tuple[int, int, str] | None = None) -> Row:
    """A record of a request that was accepted in second 98.5."""
    return Row(name, 98.5, status, error, usage)


WHOLE = (sent("a", "whole"), row("a", usage=EXACT["whole"]))
INTERRUPTED = row("", 0, "interrupted")


def violations(requests: list[Sent], rows: list[Row], deaths: list[Death] | None = None) -> list[str]:
    """What is found to be wrong."""
    return reconcile(requests, rows, deaths or []).violations


def test_books_that_agree() -> None:
    """Each good ending with the record that belongs to it."""
    pairs = [
        WHOLE,
        (sent("b", "stream", asked="stream"), row("b", usage=EXACT["stream"])),
        (sent("c", "failed", 200, "upstream_disconnected"), row("c", 200, "upstream_disconnected")),
        (sent("d", "refused", 503, "no_healthy_backend"), row("d", 503, "no_healthy_backend")),
        (sent("e", "refused", 504, "upstream_timeout"), row("e", 504, "upstream_timeout")),
        (sent("f", "refused", 404, "model_not_found", asked="unknown"), row("f", 404, "model_not_found")),
    ]
    requests, rows = [request for request, _ in pairs], [record for _, record in pairs]
    books = reconcile([*requests, sent("g", "refused", 503, "not_recorded")], rows, [])
    assert books.violations == []
    assert books.endings == Counter(whole=1, stream=1, failed=1, refused=4)
    assert books.records == 6


@pytest.mark.parametrize(
    ("requests", "rows", "words"),
    [
        pytest.param([WHOLE[0]], [], "no record", id="a lost record"),
        pytest.param([WHOLE[0]], [WHOLE[1], WHOLE[1]], "2 records", id="a doubled record"),
        pytest.param([WHOLE[0]], [WHOLE[1], row("a", 0, "interrupted")], "2 records", id="finished and interrupted"),
        pytest.param([], [WHOLE[1]], "never sent", id="a record of nobody"),
        pytest.param([WHOLE[0]], [row("a", 0, "interrupted")], "recorded as", id="answered, shown as interrupted"),
        pytest.param([WHOLE[0]], [row("a", 499, "client_left")], "recorded as", id="answered, shown as left"),
        pytest.param([WHOLE[0]], [row("a", usage=(210, 119, "exact"))], "usage", id="another usage"),
        pytest.param([WHOLE[0]], [row("a", usage=(210, 120, "counted"))], "usage", id="usage that was counted"),
        pytest.param([WHOLE[0]], [row("a")], "usage", id="no usage"),
        pytest.param([WHOLE[0]], [WHOLE[1], INTERRUPTED], "without a reset request", id="interrupted, of nobody"),
        pytest.param(
            [sent("a", "refused", 503, "no_healthy_backend")], [], "no record", id="a refusal without its record"
        ),
        pytest.param(
            [sent("a", "refused", 413, "request_too_large")],
            [row("a", 413, "request_too_large")],
            "refused without a reason",
            id="a broken settings file taken over",
        ),
        pytest.param(
            [sent("a", "refused", 404, "model_not_found")],
            [row("a", 404, "model_not_found")],
            "reason",
            id="a lost model",
        ),
        pytest.param(
            [sent("a", "failed", 200, "internal_error")], [row("a", 200, "internal_error")], "failed", id="500"
        ),
        pytest.param([sent("a", "whole", asked="unknown")], [WHOLE[1]], "does not exist", id="an answer of no model"),
        pytest.param([sent("a", "broken")], [row("a")], "broken", id="against the contract"),
        pytest.param([sent("a", "silent", 0)], [row("a")], "silent", id="nothing came"),
        pytest.param([sent("a", "reset", 0)], [], "reset by no kill", id="reset by nobody"),
    ],
)
def test_books_that_differ(requests: list[Sent], rows: list[Row], words: str) -> None:
    """Each difference is found, once."""
    found = violations(requests, rows)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (None, "no record"),
        (INTERRUPTED, "interrupted"),
        (row("a", 0, "interrupted"), "interrupted"),
        (row("a", 200, usage=EXACT["whole"]), "recorded 200"),
    ],
)
def test_a_kill_explains_its_own_connections(record: Row | None, kind: str) -> None:
    """Whatever is recorded of them, if once; but no other connection, and none of another time."""
    rows = [] if record is None else [record]
    lost = sent("a", "reset", 0, port=4001)
    books = reconcile([lost], rows, [KILL])
    assert books.violations == []
    assert books.resets == Counter({kind: 1})
    for other in (replace(lost, port=4000), replace(lost, ended=105.0), replace(lost, ended=98.9)):
        assert len(violations([other], rows, [KILL])) == 1
    assert len(violations([lost], [row("a"), row("a", 0, "interrupted")], [KILL])) == 1


def test_a_kill_explains_connections_that_nobody_had_accepted() -> None:
    """One that was being opened just then; a kill of another moment does not."""
    opening = replace(sent("a", "reset", 0, port=4009), opening=99.2, opened=99.3)
    assert violations([opening], [], [KILL]) == []
    assert len(violations([replace(opening, opening=99.6, opened=99.7)], [], [KILL])) == 1


def test_a_drain_explains_no_reset() -> None:
    """It is to lose nobody; the words say that it was one."""
    drain = replace(KILL, how="drained")
    assert "w0 was drained meanwhile" in violations([sent("a", "reset", 0, port=4001)], [], [drain])[0]


def test_records_without_names_find_as_many_requests_as_possible() -> None:
    """Each belongs to a reset request that was under way when it was accepted."""
    kill = replace(KILL, ports=frozenset({1, 2}))
    long = Sent("long", "whole", 90.0, 100.0, "reset", port=1)
    short = Sent("short", "whole", 98.0, 99.5, "reset", port=2)
    rows = [Row("", 98.5, 0, "interrupted", None), Row("", 91.0, 0, "interrupted", None)]
    assert violations([long, short], rows, [kill]) == []
    assert len(violations([long, short], [*rows, Row("", 98.6, 0, "interrupted", None)], [kill])) == 1
    assert len(violations([long, short], [*rows[:1], Row("", 89.0, 0, "interrupted", None)], [kill])) == 1


# --- the client ---

HEADERS = {b"x-request-id": b"a"}
STREAM = b"".join(chunk.partition(b"\r\n")[2].removesuffix(b"\r\n") for chunk in CHUNKS[:-1])
DONE = b"data: [DONE]\n\n"
ERROR: dict[str, Any] = {"error": {"message": "m", "type": "t", "param": None, "code": "upstream_timeout"}}
REFUSAL = json.dumps(ERROR).encode()
RETRY = HEADERS | {b"retry-after": b"2"}


@pytest.mark.parametrize(
    ("asked", "status", "headers", "body", "ending", "code"),
    [
        ("whole", 200, HEADERS, ANSWER, "whole", ""),
        ("whole", 200, HEADERS, ANSWER[:-1], "broken", ""),
        ("whole", 200, {b"x-request-id": b"b"}, ANSWER, "broken", ""),
        ("whole", 504, HEADERS, REFUSAL, "refused", "upstream_timeout"),
        ("whole", 503, RETRY, REFUSAL, "refused", "upstream_timeout"),
        ("whole", 503, HEADERS, REFUSAL, "broken", ""),
        ("whole", 503, HEADERS | {b"retry-after": b"3600"}, REFUSAL, "broken", ""),
        ("whole", 502, HEADERS, b'{"detail": "Bad Gateway"}', "broken", ""),
        ("whole", 502, HEADERS, b"Bad Gateway", "broken", ""),
        ("whole", 502, HEADERS, json.dumps({"error": ERROR["error"] | {"code": None}}).encode(), "broken", ""),
        ("stream", 200, HEADERS, STREAM + DONE, "stream", ""),
        ("stream", 200, HEADERS, STREAM + b": x-spiritsafe-cost: 7\n\n" + DONE, "stream", ""),
        ("stream", 200, HEADERS, STREAM, "broken", ""),
        ("stream", 200, HEADERS, b": ping\n\ndata: " + REFUSAL + b"\n\n" + DONE, "failed", "upstream_timeout"),
        ("stream", 200, HEADERS, STREAM.replace(b" word7\"", b" word8\""), "broken", ""),
        ("stream", 200, HEADERS, STREAM + STREAM + DONE, "broken", ""),
    ],
)  # fmt: skip
def test_endings_are_told_apart(
    asked: Asked, status: int, headers: dict[bytes, bytes], body: bytes, ending: str, code: str
) -> None:
    """What is against the contract is broken, whatever the status says."""
    request = Sent("a", asked, 0.0)
    note(request, status, headers, body)
    assert (request.ending, request.code) == (ending, code)
    assert bool(request.detail) == (ending == "broken")


Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse two requests on a connection; what follows is half an answer, and the end."""
    for number in range(3):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        values = dict(line.split(": ", 1) for line in head.splitlines()[1:-1])
        await reader.readexactly(int(values["content-length"]))
        name = values["x-request-id"]
        answer = f"HTTP/1.1 504 X\r\nx-request-id: {name}\r\ncontent-length: {len(REFUSAL)}\r\n\r\n".encode() + REFUSAL
        writer.write(answer[: len(answer) - 10 * (number == 2)])
    writer.close()


async def test_the_client_keeps_connections_and_notes_their_loss() -> None:
    """A connection is used again; one that is lost before the answer's end is a reset, and not used any more."""
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    witness = Witness(server.sockets[0].getsockname()[1], "key", 1)
    found = [await witness.ask() for _ in range(4)]
    assert [request.ending for request in found] == ["refused", "refused", "reset", "refused"]
    assert len({request.port for request in found[:3]}) == 1
    assert found[3].port != found[0].port
    assert "a kept connection" in found[2].detail
    assert all(request.began <= request.ended for request in found)
    server.close()


async def test_nobody_listens() -> None:
    """That is a reset too, of a connection that was never open."""
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    request = await Witness(port, "key", 1).ask()
    assert (request.ending, request.port) == ("reset", 0)
    assert request.began <= request.opened <= request.ended


# --- the schedule and the memory ---


def test_a_schedule_has_every_kind_and_comes_from_its_seed() -> None:
    """In a short run once; in a long one again and again, and every one in time to recover."""
    for seconds in (60.0, 1800.0):
        backends, house = disturbances.schedule(seconds, 7)
        assert {event.kind for event in backends} == set(disturbances.BACKENDS)
        assert {event.kind for event in house} == set(disturbances.HOUSE)
        for lane in (backends, house):
            assert lane == sorted(lane, key=lambda event: event.at)
            assert 0 < lane[0].at <= lane[-1].at < 0.9 * seconds
    assert disturbances.schedule(1800, 7) == (backends, house)
    assert disturbances.schedule(1800, 8) != (backends, house)
    assert Counter(event.kind for event in backends)["stall a backend"] == 30
    assert Counter(event.kind for event in house)["kill a worker"] == 12


def test_in_a_long_run_one_worker_and_the_ingester_come_to_rest() -> None:
    """So that their memory is seen over a long life; the other worker is killed to the end."""
    _, house = disturbances.schedule(1800, 7)
    late = [event for event in house if event.at > 700]
    assert "kill the ingester" not in {event.kind for event in late}
    assert {event.victim for event in late if event.kind in ("kill a worker", "drain a worker")} == {1}


def lives(*courses: Callable[[float], float]) -> list[memory.Sample]:
    """Samples of a process, a second apart, for 500 s a life."""
    return [
        memory.Sample("w0", pid, pid * 1000.0 + second, course(second))
        for pid, course in enumerate(courses)
        for second in range(500)
    ]


def test_memory_is_judged_after_the_warm_up() -> None:
    """Growth at the beginning is none; growth to the end is."""
    noise = random.Random(1)
    (warm,) = memory.courses(lives(lambda second: 40 + min(second, 120) + noise.uniform(-1, 1)))
    assert warm.is_flat
    assert warm.slope == pytest.approx(0.0, abs=0.2)
    (leak,) = memory.courses(lives(lambda second: 80 + second / 10))
    assert leak.is_flat is False
    assert leak.slope == pytest.approx(6.0)
    assert leak.first_mb == pytest.approx(96.7)
    assert leak.last_mb == pytest.approx(125.2)


def test_memory_is_judged_by_the_longest_life() -> None:
    """A shorter one is not judged, and one that has hardly warmed up has no figures."""
    samples = lives(lambda second: 80.0, lambda second: 80 + second)
    (course,) = memory.courses([*samples[:500], *samples[500:800]])
    assert (course.lives, course.is_flat) == (2, True)
    (short,) = memory.courses(samples[500:800])
    assert short.is_flat is None
    assert short.slope == pytest.approx(60.0)
    (shorter,) = memory.courses(samples[500:640])
    assert (shorter.is_flat, shorter.slope) == (None, None)


def test_who_grows_or_ends_by_itself_is_named() -> None:
    """An end that nobody brought about is found even where no request was under way."""
    flat, leak = memory.Course("w0", 3, 400.0, 80.0, 82.0, 0.3), memory.Course("w1", 1, 400.0, 80.0, 99.0, 3.0)
    assert endurance.unsteady([flat], Counter(w0=2)) == []
    assert len(endurance.unsteady([flat], Counter(w0=1))) == 1
    assert "80 to 99 MB" in endurance.unsteady([leak], Counter())[0]


def test_violations_are_counted_by_kind() -> None:
    """Whatever request and second they are of."""
    words = ["endurance-7: reset, 0.14 s after it was sent", "endurance-12: reset, 1.2 s after it was sent", "other"]
    assert sorted(endurance.kinds_of(words).values()) == [1, 2]


# --- the whole ---


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_short_run(tmp_path: Path) -> None:
    """A house that is killed, drained, stalled and reloaded for 75 s loses and doubles nothing."""
    outcome = endurance.run(tmp_path, 75.0, 1, 20.0)
    assert outcome.violations == []
    assert set(outcome.events) == {*disturbances.BACKENDS, *disturbances.HOUSE}
    endings = outcome.books.endings
    assert endings.total() == 1500
    assert min(endings["whole"], endings["stream"]) > 400
    assert endings["refused"] > 0
    assert endings["failed"] > 0
