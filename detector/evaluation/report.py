"""A run's results as tables for a terminal, as JSON, and as one HTML page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from detector.evaluation.attacks import attack_strategies
from detector.evaluation.audit import MOST_AUC, Finding
from detector.evaluation.benign import benign_profiles
from detector.evaluation.figures import Figure
from detector.evaluation.operating import HARD, NAIVE
from detector.evaluation.plots import bar_plot, calibration_plot, day_plot, leak_plot, precision_recall_plot
from detector.evaluation.results import Operating, Results
from detector.evaluation.targets import Target, targets


def html(results: Results) -> str:
    """Return the report as one page that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("detector.evaluation", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = percent
    names = _names(results)
    shipped = results.shipped()
    return environment.get_template("report.html").render(
        world=_world(results),
        targets=[_target(target) for target in targets(results)],
        precision_recall=precision_recall_plot(results.curves),
        leaks=leak_plot(results.leaks, names, 100.0),
        look_alikes=bar_plot(shipped.look_alikes, names, 0.10),
        calibration=list(_calibration(results)),
        calibration_plot=_calibration_plot(results),
        hydras=list(_hydras(results)),
        hydra_plot=_hydra_plot(results),
        large=0 if results.hydras is None else results.hydras.campaigns,
        splits=list(_splits(results)),
        strategies=list(_strategies(results, names)),
        corpora=list(_corpora(results)),
        groups=[
            {"name": name, "figure": figure, "count": f"{count:,}"}
            for groups in (shipped.by_size, shipped.by_language)
            for name, (figure, count) in groups.items()
        ],
        operating=results.operating,
        audit=[_probe(finding) for finding in results.audit],
        run=list(_run(results)),
    )


def text(results: Results) -> str:
    """Return the tables as text."""
    names = _names(results)
    run = [f"{name}: {value}" for name, value in _run(results)]
    parts = [
        [_world(results)], _target_lines(results), *_split_lines(results), _strategy_lines(results, names),
        _hydra_lines(results), _calibration_lines(results), _group_lines(results, names),
        _alert_lines(results), _audit_lines(results), run,
    ]  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in parts)


def _target_lines(results: Results) -> list[str]:
    rows = [[row.metric, str(row.figure), _bound(row.ship), _bound(row.aim), row.verdict] for row in targets(results)]
    return ["AGAINST THE TARGETS", *_table(rows, ("metric", "measured", "ship", "aim", ""))]


def _split_lines(results: Results) -> Iterator[list[str]]:
    heads = ("", "PR-AUC 0.5 %", "PR-AUC 0.1 %", "found at 1 %", "real FPR", "found at 0.1 %", "real FPR")
    for split in _splits(results):
        rows = []
        for row in split["rows"]:
            precision = [str(row.pr_auc[prevalence]) for prevalence in (0.005, 0.001)]
            rates = [percent(kind[rate]) for rate in (0.01, 0.001) for kind in (row.detected, row.false_rate)]
            rows.append([row.contender, *precision, *rates])
        yield [split["name"].upper(), *_table(rows, heads)]


def _strategy_lines(results: Results, names: Mapping[str, str]) -> list[str]:
    rows = []
    for row in _strategies(results, names):
        leak = row["leak"]
        measured = [
            str(row["pr_auc"]),
            percent(row["days"]),
            percent(leak.alerted),
            str(leak.requests),
            str(leak.tokens),
        ]
        rows.append([row["name"], *measured])
    heads = ("strategy", "PR-AUC", "days at 1 %", "alerted", "answers before", "tokens before")
    return ["BY STRATEGY", *_table(rows, heads)]


def _hydra_lines(results: Results) -> list[str]:
    rows = [[row["day"], *(percent(row[name]) for name in ("found", "leaked", "purity"))] for row in _hydras(results)]
    heads = ("days since its first answer", "members found", "leaked", "purity of its sets")
    return ["LARGE CAMPAIGNS BY THE DAY", *_table(rows, heads)]


def _calibration_lines(results: Results) -> list[str]:
    rows = [[row["score"], row["mean"], percent(row["harvesting"]), row["accounts"]] for row in _calibration(results)]
    return ["CALIBRATION AT A PREVALENCE OF 0.5 %", *_table(rows, ("score", "mean", "harvest", "accounts"))]


def _group_lines(results: Results, names: Mapping[str, str]) -> list[str]:
    shipped = results.shipped()
    groups = [
        *((f"{name} {names.get(name, '')}".rstrip(), row) for name, row in shipped.look_alikes.items()),
        *shipped.by_size.items(),
        *shipped.by_language.items(),
    ]
    rows = [[name, percent(figure), f"{count:,}"] for name, (figure, count) in groups]
    return ["BY LOOK-ALIKE, SIZE AND LANGUAGE: SHARE FLAGGED", *_table(rows, ("", "flagged", "accounts"))]


def _alert_lines(results: Results) -> list[str]:
    rows = []
    for row in results.operating:
        hydra = [percent(row.hydra.found[day]) for day in (2, 5, 14)]
        measured = [str(row.naive.requests), str(row.hard.requests), *hydra, str(row.false_alerts), _worst(row)]
        rows.append([row.alerts_of, *measured])
    heads = ("alerts of", "naive", "hard", "hydra 2 d", "5 d", "14 d", "false / 1,000 d", "worst look-alike")
    return ["ALERTS, BESIDE THE BASELINES", *_table(rows, heads)]


def _audit_lines(results: Results) -> list[str]:
    rows = [[row["name"], row["auc"], row["words"]] for row in map(_probe, results.audit)]
    return ["WHAT THE SIMULATOR GIVES AWAY", *_table(rows, ("probe", "AUC", ""))]


def document(results: Results) -> dict[str, Any]:
    """Return all figures as plain objects for JSON; what was not measured is None, what never came is “never”."""
    return {
        "world": results.world,
        "seed": results.setup.seed,
        "seconds": results.seconds,
        "peak_memory_mib": round(results.peak_memory_mib),
        "targets": [_plain(target) | {"verdict": target.verdict} for target in targets(results)],
        "splits": [_plain(split) for split in results.splits],
        "operating": [_plain(operating) for operating in results.operating],
        "calibration": _plain(results.calibration),
        "hydras": _plain(results.hydras),
        "cost": _plain(results.cost),
        "abstained": results.abstained,
        "audit": [
            {"probe": found.probe.name, "auc": _plain(found.auc), "passed": found.passed} for found in results.audit
        ],
    }


def write(results: Results, folder: Path) -> Path:
    """Write `report.html` into a folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(html(results), encoding="utf-8")
    return path


def percent(figure: Figure) -> str:
    """Write a share and its interval in per cent."""
    if math.isnan(figure.value):
        return "–"
    if math.isnan(figure.low):
        return f"{100 * figure.value:.1f} %"
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "never"
    return value


def _names(results: Results) -> dict[str, str]:
    additions = results.setup.additions
    attacks = {one.code: one.name for one in attack_strategies(additions)}
    return attacks | {one.code: one.name for one in benign_profiles(additions)}


def _world(results: Results) -> str:
    world = results.world
    return (
        f"{world['benign accounts']:,} ordinary accounts with {world['benign requests']:,} requests and "
        f"{world['campaigns']:,} campaigns in {world['cells']} cells with {world['requests of campaigns']:,} requests "
        f"of {world['accounts of campaigns']:,} accounts, over 28 days, from {world['corpora']} corpora and "
        f"{world['clients']} clients; seed {results.setup.seed}."
    )


def _worst(row: Operating) -> str:
    name, figure = row.worst_look_alike()
    return f"{name}: {percent(figure)}"


def _target(target: Target) -> dict[str, str]:
    return {
        "metric": target.metric, "figure": str(target.figure), "ship": _bound(target.ship), "aim": _bound(target.aim),
        "verdict": target.verdict,
    }  # fmt: skip


def _bound(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,g}" if value >= 1e-6 else "> 0"


def _splits(results: Results) -> Iterator[dict[str, Any]]:
    for name, headline in results.headline.items():
        rows = [row for row in results.splits if row.split == name]
        yield {"name": name, "headline": headline, "rows": rows}


def _strategies(results: Results, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    split = results.split("leave-attack-type-out")
    for code, leak in results.shipped().by_strategy.items():
        yield {
            "name": f"{code} {names.get(code, '')}", "kind": _kind(code), "pr_auc": split.by_fold[code],
            "days": split.detected_by_fold[code][0.01],
            "leak": leak,
        }  # fmt: skip


def _kind(code: str) -> str:
    return "naive" if code in NAIVE else "hard" if code in HARD else ""


def _hydras(results: Results) -> Iterator[dict[str, Any]]:
    found = {} if results.hydras is None else results.hydras.by_day
    return ({"day": str(day), **vars(row)} for day, row in found.items())


def _hydra_plot(results: Results) -> str:
    found = {} if results.hydras is None else results.hydras.by_day
    names = {"found": "members found", "leaked": "answers leaked", "purity": "purity of sets"}
    return day_plot({words: {day: getattr(row, name) for day, row in found.items()} for name, words in names.items()})


def _calibration(results: Results) -> Iterator[dict[str, Any]]:
    for one in () if results.calibration is None else results.calibration.bins:
        yield {"score": f"{one.low:g}–{one.high:g}", "mean": f"{one.mean_score.value:.4f}",
               "harvesting": one.harvesting, "accounts": f"{one.accounts:,}"}  # fmt: skip


def _calibration_plot(results: Results) -> str:
    bins = () if results.calibration is None else results.calibration.bins
    return calibration_plot([(one.mean_score.value, one.harvesting, one.accounts) for one in bins if one.accounts])


def _corpora(results: Results) -> Iterator[dict[str, Any]]:
    split = results.split("leave-corpus-out")
    for name, figure in split.by_fold.items():
        yield {
            "name": name, "pr_auc": figure, "days": split.detected_by_fold[name][0.01],
            "false": split.false_by_fold[name][0.01],
        }  # fmt: skip


def _probe(finding: Finding) -> dict[str, str]:
    if finding.probe.exception is not None:
        return {"name": finding.probe.name, "auc": str(finding.auc), "verdict": "not",
                "words": f"may tell: {finding.probe.exception}"}  # fmt: skip
    words = f"at most {MOST_AUC:.2f}"
    if not finding.passed:
        words = (
            "gives the label away"
            if finding.gives_away
            else f"above {MOST_AUC:.2f}, within the chance of few campaigns"
        )
    return {"name": finding.probe.name, "auc": str(finding.auc), "verdict": "aim" if finding.passed else "missed",
            "words": words}  # fmt: skip


def _run(results: Results) -> Iterator[tuple[str, str]]:
    for name, seconds in results.seconds.items():
        yield f"{name}, s", f"{seconds:,.0f}"
    yield "peak memory, MiB", f"{results.peak_memory_mib:,.0f}"
    if results.cost is not None:
        yield "detector, µs a request", f"{results.cost.microseconds_a_request:,.0f}"
        yield "an account's state, bytes", f"{results.cost.bytes_an_account:,.0f}"
    for name, share in results.abstained.items():
        yield f"abstained: {name}", f"{share:.1%}"


def _table(rows: list[list[str]], heads: tuple[str, ...]) -> list[str]:
    cells = [list(heads), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
