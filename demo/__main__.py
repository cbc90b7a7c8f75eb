"""`make demo`: the whole of Spiritsafe, from an empty folder to a student that serves, told in plain sentences.

The last line on stdout is one JSON object with the figures and the times of the steps. A run that failed goes on at the
failed step; a run that finished begins anew. `--once` stops the house at the end instead of leaving it running.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time

from demo import narration, people, summary, traffic, training
from demo.house import DemoError
from demo.memory import PeakMemory
from demo.world import World, open_world

STEPS = (
    ("people", "Two operators, five accounts, and the house around them", people.move_in),
    ("history", "Fourteen days of history come in from elsewhere", traffic.bring_history),
    ("live", "Five applications go live, one of them to carry the model home", traffic.go_live),
    ("ledger", "Every answer accounted for", traffic.check_ledger),
    ("snapshot", "From consented rows to an approved snapshot", training.freeze),
    ("train", "A student is trained on what was approved", training.train),
    ("gate", "The student must prove itself, and the untrained one must fail", training.evaluate),
    ("auto", "Promotion, and `auto` begins to save", training.promote_and_use),
    ("finish", "What it came to", summary.report),
)


def main() -> None:
    """Run the demo; exit status 1 when a step did not do its job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the house at the end")
    parser.add_argument("--setup-seconds", type=float, default=0.0, help="how long the installs before it took")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    world = open_world()
    world.seconds.setdefault("setup", arguments.setup_seconds)
    memory = PeakMemory()
    memory.start()
    try:
        run(world, memory)
        if not arguments.once:
            stay(world)
    except DemoError as error:
        print(f"\nThe demo stopped: {error}\nRun it again to go on at this step.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        memory.stop()
        world.house.stop()


def run(world: World, memory: PeakMemory) -> None:
    """Run the steps that have not been done, then print the figures as the last line."""
    world.house.start()
    if "people" in world.results:
        world.house.wait_operators()
        world.house.wait_models(world.operator(people.REQUESTER), "teacher")
    for number, (name, title, work) in enumerate(STEPS, 1):
        with narration.step(number, len(STEPS), title):
            if name in world.results:
                narration.say("Done in an earlier run.")
                continue
            began = time.monotonic()
            world.house.check_alive()
            world.results[name] = work(world)
            world.seconds[name] = round(time.monotonic() - began, 1)
            world.kept["peak_memory_bytes"] = max(world.kept.get("peak_memory_bytes", 0), memory.bytes)
            world.save()
    print(json.dumps(summary.figures(world)), flush=True)


def stay(world: World) -> None:
    """Leave the house running until Ctrl-C."""
    print("The house stays open: Ctrl-C closes it.", file=sys.stderr, flush=True)
    while world.house.process is not None and world.house.process.poll() is None:
        time.sleep(1)


def _interrupt(_number: int, _frame: object) -> None:
    # Set for SIGINT too, which a process started in the background ignores by default.
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
