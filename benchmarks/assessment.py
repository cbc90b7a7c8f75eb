"""What an assessment says of a harvester and of an innocent account; `make bench-assessment`.

The demo's teacher answers three sorts of accounts, whose prompts are of the project's own making: one that walks
through unrelated instructions as the demo's harvester does, one whose support desk asks about tickets of one product,
and eight with ordinary uses. Both of the first have an alert, raised by hand: whether the detector finds them is
another benchmark. `spiritsafe distill assess` then looks at each. Answers are kept in `build/assessment/`, so that a
second run is shorter. Prints both reports; the last line is one JSON object.
"""

import argparse
import hashlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo import corpus, foreign, tickets
from detector.evaluation.corpora import own
from distiller.assessment import Assessment, Bench, Probe, assess
from distiller.assessment_report import in_words
from distiller.progress import Progress
from gateway.ledger import accounts, alerts
from gateway.ledger.database import Database, open_database
from gateway.ledger.fingerprint import complete
from gateway.ledger.identifiers import to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from gateway.settings import Settings, load_settings

PYTHON = Path(".venv-distiller/bin/python")
TEACHER = Path("models/teacher")
KEPT = Path("build/assessment")
SEED = 20261125
COLLECTED, ORDINARY, ACCOUNTS = 570, 80, 8
SHARD = 460  # chats that one process answers
HARVESTER, INNOCENT = "gleaner", "brindle-desk"
DESK = "You help the customers of Brindle garden watering. Answer in one friendly sentence."
BEGIN = datetime(2026, 11, 2, 8, tzinfo=UTC)

Messages = list[dict[str, str]]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 where the environment or the teacher is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assessment", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=Probe().seeds)
    parser.add_argument("--only", choices=(HARVESTER, INNOCENT), help="look at one of them")
    parser.add_argument("--answers-only", action="store_true", help="only have the teacher answer")
    options = parser.parse_args(arguments)
    if not PYTHON.is_file() or not TEACHER.is_dir():
        print("The distiller's environment or the teacher is missing: run `make setup-all` first.", file=sys.stderr)
        return 1
    asked = {name: list(prompts) for name, prompts in everyone().items()}
    said = answers([messages for prompts in asked.values() for messages in prompts], options.threads)
    if not options.answers_only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), asked, said, options)))
    return 0


def everyone() -> dict[str, Iterator[Messages]]:
    """What each account asks; the same at every call."""
    harvest = (plain(text) for text in corpus.instructions(SEED))
    desk = ([{"role": "system", "content": DESK}, *plain(one.text)] for one in tickets.tickets(SEED, COLLECTED))
    return {
        HARVESTER: itertools.islice(harvest, COLLECTED),
        INNOCENT: desk,
        **{name: itertools.islice(prompts, ORDINARY) for name, prompts in ordinary()},
    }


def ordinary() -> Iterator[tuple[str, Iterator[Messages]]]:
    """Six companies with questions about a few subjects each, a kitchen's chat, and somebody with all sorts of them."""
    draw = random.Random(SEED)
    items = own.ADAPTER.load(Path())[0].items
    subjects = draw.sample(sorted({item.topic for item in items}), 3 * (ACCOUNTS - 2))
    for number in range(ACCOUNTS - 2):
        own_subjects = subjects[3 * number : 3 * number + 3]
        about = [item.text for item in items if item.topic in own_subjects]
        yield f"company-{number}", map(plain, draw.sample(about, ORDINARY))
    kitchen = ({"role": "system", "content": corpus.CHAT_SYSTEM},)
    openings = dict.fromkeys(questions[0] for _, questions in itertools.islice(corpus.conversations(SEED), 2000))
    yield "kettle-chat", ([*kitchen, *plain(text)] for text in openings)
    yield "all-sorts", map(plain, draw.sample(foreign.FOREIGN, ORDINARY))


def plain(text: str) -> Messages:
    """One user's message."""
    return [{"role": "user", "content": text}]


def answers(asked: list[Messages], threads: int) -> list[dict[str, Any]]:
    """What the teacher says to each, {text, ended}; kept for the next run."""
    file = KEPT / f"answers-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shards = [asked[start : start + SHARD] for start in range(0, len(asked), SHARD)]
        with ThreadPoolExecutor(threads) as pool:
            file.write_text(json.dumps([one for said in pool.map(answered, shards) for one in said]))
    said: list[dict[str, Any]] = json.loads(file.read_text())
    return said


def answered(asked: list[Messages]) -> list[dict[str, Any]]:
    """Have a child that has torch answer these, on one core."""
    command = [str(PYTHON), "-m", "benchmarks.assessment_answers", "--model", str(TEACHER)]
    done = subprocess.run(command, input=json.dumps(asked), stdout=-1, text=True, check=True)
    said: list[dict[str, Any]] = json.loads(done.stdout)
    return said


def measure(
    folder: Path, asked: dict[str, list[Messages]], said: list[dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Fill a house, raise both alerts and assess them; the figures."""
    settings, database = house(folder, asked, said, options.threads)
    found: dict[str, Any] = {}
    for name in (HARVESTER, INNOCENT):
        with database.write() as connection:
            alert, _ = alerts.raise_or_update(connection, name, "medium", 0.5, [], {})
        if options.only in (None, name):
            found[name] = figures(settings, database, alert.id, Probe(seeds=options.seeds))
    return {"benchmark": "assessment", "collected": COLLECTED, "ordinary": ORDINARY * ACCOUNTS, **found}


def house(
    folder: Path, asked: dict[str, list[Messages]], said: list[dict[str, Any]], threads: int
) -> tuple[Settings, Database]:
    """A house with everybody's traffic in its lake."""
    file = folder / "spiritsafe.toml"
    file.write_text(
        'data_dir = "data"\n[[models]]\nname = "teacher"\nrole = "teacher"\n[models.serve]\n'
        f'path = "{TEACHER.resolve()}"\nport = 9\n[distiller]\npython = "{PYTHON.absolute()}"\nthreads = {threads}\n'
    )
    settings = load_settings(file, {})
    database = open_database(settings.database_url)
    rest, records = iter(said), []
    with database.write() as connection:
        for name, prompts in asked.items():
            accounts.create(connection, accounts.Account(name, BEGIN), "benchmark")
            records += [record(name, number, messages, next(rest)) for number, messages in enumerate(prompts)]
    Lake.of(settings).append(to_table([complete(one) for one in records]))
    return settings, database


def record(account: str, number: int, messages: Messages, answer: dict[str, Any]) -> dict[str, Any]:
    """A traffic record with its answer, a minute after the account's last."""
    return {
        "id": f"{account}-{number}", "time": to_rfc3339(BEGIN + timedelta(minutes=number)), "origin": "synthetic",
        "account": account, "endpoint": "chat.completions", "model_requested": "teacher", "model": "teacher",
        "model_role": "teacher", "messages": messages, "response": {"content": answer["text"], "choices": 1},
        "status": 200, "finish_reason": "stop" if answer["ended"] else "length",
    }  # fmt: skip


def figures(settings: Settings, database: Database, alert: str, probe: Probe) -> dict[str, Any]:
    """Assess one alert and print the report."""
    bench = Bench(settings, database, "benchmark", Progress("Training probes").show)
    started = time.process_time()
    made: Assessment = assess(bench, alert, probe, "What does an assessment say of it?")
    print(in_words(made), flush=True)
    return made.as_row() | {"parent_cpu_s": round(time.process_time() - started, 1)}


if __name__ == "__main__":
    sys.exit(main())
