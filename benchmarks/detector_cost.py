"""What the detector costs: CPU a request, state an account, and whether either grows with the traffic.

    python -m benchmarks.detector_cost [--requests 1000000] [--accounts 10000]

Fingerprinted requests without text of many accounts over 28 days, made in memory, are read and followed by the
service's own code in batches; a tenth of the size is measured first, so that growth shows.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from detector import columns, sketch
from detector.verdicts import VERDICT
from detector.watch import Watch

DAYS, START_MS = 28, 1_793_577_600_000
BATCH = 25_000
TARGET_S = 60.0  # on two cores, for a million requests of ten thousand accounts


def tables(requests: int, accounts: int, seed: int = 0) -> Iterator[pa.Table]:
    """Yield requests in event time, a batch at a time; accounts differ in volume by a power law."""
    rng = np.random.default_rng(seed)
    share = rng.pareto(1.2, accounts) + 0.05
    share /= share.sum()
    themes = rng.normal(size=(accounts, 128)).astype(np.float32)
    step = DAYS * 86_400_000 // requests
    for begin in range(0, requests, BATCH):
        size = min(BATCH, requests - begin)
        account = rng.choice(accounts, size, p=share)
        times = START_MS + step * (begin + np.arange(size))
        yield _table(rng, begin, account, times, themes)


def _table(
    rng: np.random.Generator, begin: int, account: np.ndarray, times: np.ndarray, themes: np.ndarray
) -> pa.Table:
    size = len(account)
    vectors = themes[account] + 1.5 * rng.normal(size=(size, 128)).astype(np.float32)
    vectors = (vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)
    # A third of the requests asks an earlier thing of the account's again.
    item = np.where(rng.random(size) < 0.33, account * 7, rng.integers(0, 2**31, size))
    minhash = (item[:, None].astype(np.uint64) * (2 * np.arange(64, dtype=np.uint64) + 1) * 2654435761) % 2**32
    tokens = pa.array(rng.integers(20, 900, size))
    usage = pa.StructArray.from_arrays(
        [tokens, pa.array(rng.integers(1, 400, size)), pa.array(np.zeros(size, np.int64)), tokens],
        names=["input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"],
    )
    client = pa.StructArray.from_arrays(
        [pa.array([f"10.0.{n % 250}.0/24" for n in account]), pa.array(["OpenAI/Python 2.8.1"] * size)],
        names=["network", "user_agent"],
    )
    return pa.table(
        {
            "id": [f"r{begin + n:010d}" for n in range(size)],
            "time": pa.array(times, pa.timestamp("ms", "UTC")),
            "account": [f"account-{n:06d}" for n in account],
            "origin": ["live"] * size,
            "endpoint": ["chat.completions"] * size,
            "model": ["teacher"] * size,
            "model_role": ["teacher"] * size,
            "turns": pa.array(rng.integers(1, 4, size)),
            "parameters": ['{"temperature":0.7}'] * size,
            "usage": usage,
            "status": pa.array(np.full(size, 200)),
            "cost": pa.array(rng.integers(1_000, 900_000, size)),
            "client": client,
            "skeleton": [f"{n % 977:032x}" for n in account],
            "minhash": pa.array(list(minhash.astype(np.uint32)), pa.list_(pa.uint32())),
            "embedding": pa.array([vector.tobytes() for vector in vectors], pa.binary()),
            "conversation": [f"{n:032x}" for n in item],
        }
    )


def measure(requests: int, accounts: int) -> dict[str, float]:
    """Follow the requests and return what it cost, seconds of CPU and bytes."""
    watch, spent = Watch(), 0.0
    for table in tables(requests, accounts):
        began = time.process_time()
        watch.advance(columns.read(table))
        spent += time.process_time() - began
    began = time.process_time()
    watch.finish()
    spent += time.process_time() - began
    return {
        "requests": requests,
        "accounts": len(watch.book),
        "cpu_s": spent,
        "us_a_request": 1e6 * spent / requests,
        "checkpoint_bytes_an_account": len(watch.book.to_bytes()) / max(1, len(watch.book)),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure a tenth and the whole, and say what a million would take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    given = parser.parse_args()
    print(f"state: {sketch.STATE.itemsize} bytes an account, and {VERDICT.itemsize} of what was concluded")
    for share in (10, 1):
        found = measure(given.requests // share, given.accounts // share)
        print("  ".join(f"{name} {value:,.1f}" for name, value in found.items()), flush=True)
    print(f"a million requests: {found['us_a_request']:.0f} s of CPU (target: {TARGET_S:.0f} s on two cores)")


if __name__ == "__main__":
    main()
