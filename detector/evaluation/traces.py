"""Rates and lengths of real clients: ServeGen (rates, burstiness, token quantiles), Azure and Mooncake (lengths).

ServeGen's 14 days (one day for reasoning and image models) are tiled to 28, weekday upon weekday, and thinned: a
client's requests in 28 days are 45 × (its rate ÷ the median rate)^0.35, so that the order and the shape of a month
remain and ten thousand accounts make about a million requests. Azure's and Mooncake's one hour gives lengths alone;
clients with these take their rates from a ServeGen client.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

DAYS = 28
BINS = 144  # of ten minutes, a day
TYPICAL, COMPRESSION = 45.0, 0.35
LONGEST, SHORT_ANSWER = 4096.0, 40.0  # tokens of an answer
_LEVELS = np.linspace(0.0, 1.0, 101)
_QUANTILES = {"q0": 0.0, "q1": 0.01, "q5": 0.05, "q10": 0.1, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q90": 0.9,
              "q95": 0.95, "q99": 0.99, "q100": 1.0}  # fmt: skip
_SHARING_RATES = 12  # ServeGen clients whose rates Azure's and Mooncake's lengths are put upon
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Client:
    """One real client. `rates`: share of requests, shape (14 × 144,); `inputs`, `outputs`: tokens at 101 quantiles.

    `volume` is in requests of 28 days, `burstiness` the coefficient of variation of the gaps.
    """

    name: str
    rates: Floats
    volume: float
    burstiness: float
    inputs: Floats
    outputs: Floats
    reasoning: bool = False

    def input_tokens(self, dice: float) -> int:
        """Return an input's tokens for a number of 0 to 1."""
        return round(float(np.interp(dice, _LEVELS, self.inputs)))

    def output_tokens(self, dice: float) -> int:
        """Return the tokens of an answer in full for a number of 0 to 1.

        Many clients ask for labels alone (a median of a few tokens); asked in full, they keep the shape of their
        lengths around a median of at least `SHORT_ANSWER`.
        """
        longer = max(1.0, SHORT_ANSWER / max(1.0, float(self.outputs[50])))
        return max(1, round(min(LONGEST, longer * float(np.interp(dice, _LEVELS, self.outputs)))))

    def times(
        self, rng: np.random.Generator, count: int, first: float, last: float, days: Floats
    ) -> npt.NDArray[np.int64]:
        """Lay out requests between two days of the month: milliseconds since its beginning, strictly increasing.

        `days` weigh the month's days beside the client's own curve, shape (28,).
        """
        starts = np.arange(DAYS * BINS) / BINS
        weights = np.tile(self.rates, DAYS // 14) * ((starts >= first - 1 / BINS) & (starts < last))
        weights *= np.repeat(days, BINS)
        if weights.sum() <= 0:
            weights = ((starts >= first - 1 / BINS) & (starts < last)).astype(float)
        per_bin = rng.multinomial(count, weights / weights.sum())
        shape = 1.0 / max(1.0, min(self.burstiness, 6.0)) ** 2
        pieces = [place + _within(rng, int(per_bin[place]), shape) for place in np.flatnonzero(per_bin)]
        milliseconds = np.sort(np.concatenate(pieces) * 600_000.0).astype(np.int64)
        return strictly_increasing(milliseconds)


def strictly_increasing(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Move equal times apart by a millisecond each."""
    steps = np.arange(len(times))
    return np.asarray(np.maximum.accumulate(times - steps) + steps)


def _within(rng: np.random.Generator, count: int, shape: float) -> Floats:
    # Gamma gaps with the client's coefficient of variation (ServeGen's own model), scaled into the bin.
    gaps = rng.gamma(shape, 1.0, count + 1) + 1e-9
    return np.asarray(np.cumsum(gaps)[:count] / gaps.sum())


def load_clients(data: Path | None) -> list[Client]:
    """Return the clients of a data folder's traces; of our own making where there are none."""
    folder = None if data is None else data / "traces"
    if folder is None or not (folder / "servegen").exists():
        return list(_made(np.random.default_rng(28)))
    served = list(_servegen(folder / "servegen"))
    return [*served, *_with_lengths_of(served, _azure(folder / "azure")),
            *_with_lengths_of(served, _mooncake(folder / "mooncake"))]  # fmt: skip


def _servegen(folder: Path) -> Iterator[Client]:
    rates = pd.read_csv(
        folder / "client_rate_traces.csv.gz", usecols=["category", "model", "client", "t", "rate", "cv"]
    )
    tokens = pd.read_csv(folder / "client_token_quantiles.csv.gz")
    key = ["category", "model", "client"]
    lengths = tokens.groupby([*key, "kind"])[list(_QUANTILES)].median()
    typical = rates.groupby(key)["rate"].mean().median()
    for (category, model, client), rows in rates.groupby(key):
        known = lengths.loc[(category, model, client)] if (category, model, client) in lengths.index else None
        taken = "text_tokens" if category == "multimodal" else "input_tokens"
        if known is None or taken not in known.index or "output_tokens" not in known.index or rows["rate"].sum() <= 0:
            continue
        curve = np.resize(rows.sort_values("t")["rate"].to_numpy(np.float64), 14 * BINS)
        yield Client(
            name=f"{model}/{client}",
            rates=curve / curve.sum(),
            volume=TYPICAL * float(rows["rate"].mean() / typical) ** COMPRESSION,
            burstiness=float(rows.loc[rows["rate"] > 0, "cv"].median()),
            inputs=_grid(known.loc[taken]),
            outputs=_grid(known.loc["output_tokens"]),
            reasoning=category == "reason",
        )


def _grid(quantiles: pd.Series) -> Floats:
    return np.asarray(np.interp(_LEVELS, list(_QUANTILES.values()), quantiles[list(_QUANTILES)].to_numpy(np.float64)))


def _azure(folder: Path) -> Iterator[tuple[str, Floats, Floats]]:
    for name in ("conv", "code"):
        file = folder / f"AzureLLMInferenceTrace_{name}.csv.gz"
        if file.exists():
            table = pd.read_csv(file)
            inputs, outputs = (np.quantile(table[column], _LEVELS) for column in ("ContextTokens", "GeneratedTokens"))
            yield f"azure-{name}", inputs, outputs


def _mooncake(folder: Path) -> Iterator[tuple[str, Floats, Floats]]:
    file = folder / "conversation_trace.jsonl.gz"
    if file.exists():
        lines = io.StringIO(gzip.decompress(file.read_bytes()).decode())
        rows = [json.loads(line) for line in lines if line.strip()]
        inputs, outputs = (
            np.quantile([row[name] for row in rows], _LEVELS) for name in ("input_length", "output_length")
        )
        yield "mooncake", inputs, outputs


def _with_lengths_of(served: list[Client], sources: Iterator[tuple[str, Floats, Floats]]) -> Iterator[Client]:
    for name, inputs, outputs in sources:
        for at in range(_SHARING_RATES):
            client = served[at * len(served) // _SHARING_RATES]
            yield replace(client, name=f"{name}/{at}", inputs=inputs, outputs=outputs, reasoning=False)


def _made(rng: np.random.Generator, count: int = 48) -> Iterator[Client]:
    hours = np.arange(14 * BINS) / BINS * 24.0
    for number in range(count):
        peak, depth, weekend = rng.uniform(0, 24), rng.uniform(0.2, 0.95), rng.uniform(0.2, 1.0)
        curve = 1 + depth * np.cos((hours - peak) * np.pi / 12)
        curve = curve * np.where(hours // 24 % 7 >= 5, weekend, 1.0) * rng.gamma(0.5, 2.0, len(hours))
        long = np.exp(rng.normal(6.0, 0.8) + rng.uniform(0.5, 1.2) * np.linspace(-2.3, 2.3, 101))
        answers = np.exp(rng.normal(4.6, 0.8) + rng.uniform(0.5, 1.0) * np.linspace(-2.3, 2.3, 101))
        yield Client(f"made/{number}", curve / curve.sum(), TYPICAL * float(np.exp(rng.normal(0.3, 0.9))),
                     float(rng.uniform(0.8, 4.0)), long, answers, number % 6 == 0)  # fmt: skip
