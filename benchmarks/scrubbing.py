"""What does the scrubber find, and what does it take for personal data? `make bench-scrubbing`.

Values of every kind in sentences (`rig.personal_data`): recall of formats that the rules were written with and of
formats that they were not, at least 300 values of a kind in each, with Wilson's lower bound at 97.5 %. A value counts
as found when all of it is replaced by one placeholder and nothing else of the sentence is. Precision is over all texts,
the look-alikes included. What has no shape is in the table too: names and streets are not found. Ten seconds of CPU;
prints tables, the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.rig.personal_data import Example, examples
from distiller.proportions import wilson
from distiller.scrubbing import Scrubber

PER_FORM = 320
_PLACEHOLDER = re.compile(r"\[([A-Z_]+)_\d+\]")


@dataclass
class Tally:
    """How many values there were, were found whole, and were left readable in part or whole."""

    of: int = 0
    found: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)


@dataclass
class Result:
    """The tallies of each kind, by whether its format was seen; and what was replaced rightly and wrongly, by kind."""

    tallies: dict[tuple[str, bool], Tally] = field(default_factory=lambda: defaultdict(Tally))
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    wrong_forms: Counter[str] = field(default_factory=Counter)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrubbing", description=__doc__)
    parser.add_argument("--per-form", type=int, default=PER_FORM)
    parser.add_argument("--seed", type=int, default=20261124)
    options = parser.parse_args(arguments)
    result = measure(examples(options.per_form, options.seed))
    recall, precision = recalls(result), precisions(result)
    _print(recall, precision, result)
    print(json.dumps({"recall": recall, "precision": precision}))
    return 0


def measure(made: Iterable[Example]) -> Result:
    """Scrub every text and compare with its label."""
    result = Result()
    for example in made:
        scrubbed = Scrubber().text(example.text)
        kinds = _PLACEHOLDER.findall(scrubbed)
        if example.kind is None:
            result.wrong.update(kinds)
            result.wrong_forms.update([example.form] * bool(kinds))
            continue
        tally = result.tallies[example.kind, example.seen]
        tally.of += 1
        tally.forms[example.form] += 1
        inside = scrubbed.removeprefix(example.before).removesuffix(example.after)
        whole = scrubbed == example.before + inside + example.after and _PLACEHOLDER.fullmatch(inside)
        tally.found += bool(whole)
        tally.missed[example.form] += not whole
        # Part of a value replaced is a miss, not a mistake: what was replaced was personal.
        spared = example.before in scrubbed and scrubbed.endswith(example.after)
        (result.right if spared else result.wrong).update(kinds)
    return result


def recalls(result: Result) -> dict[str, dict[str, float | int]]:
    """Return each kind's recall by `KIND, seen` or `KIND, unseen`, with its lower bound."""
    found = {}
    for (kind, seen), tally in sorted(result.tallies.items()):
        low, _ = wilson(tally.found, tally.of, 0.025)
        name = f"{kind}, {'seen' if seen else 'unseen'}"
        found[name] = {"of": tally.of, "found": tally.found, "recall": tally.found / tally.of, "low": low}
    return found


def precisions(result: Result) -> dict[str, dict[str, float | int]]:
    """Return each kind's precision, with its lower bound."""
    found = {}
    for kind in sorted(result.right | result.wrong):
        of = result.right[kind] + result.wrong[kind]
        low, _ = wilson(result.right[kind], of, 0.025)
        found[kind] = {"of": of, "right": result.right[kind], "precision": result.right[kind] / of, "low": low}
    return found


def _print(
    recall: Mapping[str, Mapping[str, float]], precision: Mapping[str, Mapping[str, float]], result: Result
) -> None:
    print("| kind | values | found | recall | at least | not found |\n|---|---|---|---|---|---|")
    for name, row in recall.items():
        kind, _, seen = name.partition(", ")
        tally = result.tallies[kind, seen == "seen"]
        missed = ", ".join(f"{form} {count / tally.forms[form]:.0%}" for form, count in tally.missed.items() if count)
        print(f"| {name} | {row['of']} | {row['found']} | {row['recall']:.1%} | {row['low']:.1%} | {missed} |")
    print("\n| placeholder | replaced | rightly | precision | at least |\n|---|---|---|---|---|")
    for kind, row in precision.items():
        print(f"| {kind} | {row['of']} | {row['right']} | {row['precision']:.1%} | {row['low']:.1%} |")
    print("\nwrongly replaced in: " + ", ".join(f"{form} ({n})" for form, n in result.wrong_forms.most_common()))


if __name__ == "__main__":
    sys.exit(main())
