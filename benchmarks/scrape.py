"""What the metrics of a busy house cost: CPU of publishing a worker's, once a second, and of a scrape of all of them.

Run as `python -m benchmarks.scrape`. Eight models with three backends each, and every kind of request, route and ending
that there is much of: more series than a house makes in practice.
"""

from __future__ import annotations

import tempfile
import time
from itertools import product
from pathlib import Path

from gateway.errors import CODES
from gateway.ledger import metric_files
from gateway.metrics import GatewayMetrics

WORKERS = (1, 4, 8)
ROUNDS = 7
VALUES = (0.05, 0.1, 3.0, 99.0)


def busy_worker() -> GatewayMetrics:
    """Return the metrics of a worker that has seen everything."""
    metrics = GatewayMetrics()
    models = [f"model-{number}" for number in range(8)]
    errors = ("", *sorted(CODES)[:8])
    for operation, model, error in product(("chat", "text_completion", "embeddings"), models, errors):
        for value in VALUES:
            metrics.duration.series(operation, model, error)(value)
            metrics.time_to_first_token.series(operation, model)(value)
            for kind in ("input", "output"):
                metrics.tokens.series(operation, model, kind)(value)
    for endpoint, model, status, reason in product("abcde", models, ("2xx", "4xx", "5xx"), ("pinned", "adequate")):
        metrics.requests.tally(endpoint, model, status, reason).count += 1
    for model, backend in product(models, "123"):
        for gauge in (metrics.backend_up, metrics.backend_state, metrics.backend_inflight, metrics.backend_kv_cache):
            gauge.labels(model, backend).set(1)
    return metrics


def scrape_cpu_s(directory: Path) -> tuple[float, str]:
    """Return the least CPU seconds that adding up and writing took, and the page."""
    took, page = [], ""
    for _ in range(ROUNDS):
        began = time.process_time()
        page = metric_files.merge(directory)
        took.append(time.process_time() - began)
    return min(took), page


def main() -> None:
    """Print a line for each number of workers."""
    metrics = busy_worker()
    for workers in WORKERS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            for number in range(workers):
                metric_files.publish(Path(folder), f"gateway-w{number}", metrics.registry)
            published = (time.process_time() - began) / workers
            scraped, page = scrape_cpu_s(Path(folder))
        cost = f"publish {published * 1e3:.1f} ms a worker, scrape {scraped * 1e3:.1f} ms"
        print(f"{workers} workers, {page.count(chr(10))} lines: {cost}")


if __name__ == "__main__":
    main()
