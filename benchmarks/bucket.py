"""How fast an ingester moves its spool into a lake in a bucket, beside one on the disk, in one run.

`python -m benchmarks.bucket --endpoint http://127.0.0.1:5000` against any store that keeps a conditional put, such as
`moto_server -p 5000`; keys come from AWS's own environment. The two take turns, so that a busy machine is as busy for
either.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import boto3
import click

from benchmarks.rig.accounting import rig
from benchmarks.rig.records import Records, as_spooled
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.spool import SpoolWriter
from gateway.records import complete
from gateway.settings import S3Settings, Settings


def measure(settings: Settings, count: int, records: Records) -> dict[str, float]:
    """Spool `count` records and ingest them: rows for each second, and for each second of this process's CPU."""
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    for number in range(count):
        writer.final(as_spooled(records.one(number)))
    writer.close()
    ingester = Ingester(settings, complete)
    started, cpu = time.perf_counter(), time.process_time()
    rows = ingester.run_once()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    ingester.close()
    assert rows == count
    return {"rows_per_s": count / seconds, "rows_per_cpu_s": count / cpu}


@click.command()
@click.option("--endpoint", required=True, help="Where the store answers.")
@click.option("--rows", default=20_000, show_default=True, help="Rows of a round.")
@click.option("--rounds", default=3, show_default=True)
def main(endpoint: str, rows: int, rounds: int) -> None:
    """Ingest the same rows into either, round after round, and print the medians."""
    bucket, s3 = f"bench-{uuid.uuid4().hex[:12]}", S3Settings(endpoint=endpoint, region="us-east-1")
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    records = Records(rows)
    found: dict[str, list[dict[str, float]]] = {"disk": [], "bucket": []}
    with tempfile.TemporaryDirectory() as folder:
        houses = {
            "disk": Settings(data_dir=Path(folder) / "disk"),
            "bucket": Settings(data_dir=Path(folder) / "bucket", lake=f"s3://{bucket}/house", s3=s3),
        }
        for _round in range(rounds):
            for name, settings in houses.items():
                found[name].append(measure(settings, rows, records))
        for settings in houses.values():
            assert Lake.of(settings).read(["id"]).num_rows == rows * rounds
    medians = {
        name: {figure: round(statistics.median(one[figure] for one in measured)) for figure in measured[0]}
        for name, measured in found.items()
    }
    print(json.dumps({"rig": rig(), "rows": rows, "rounds": rounds, **medians}, indent=1))


if __name__ == "__main__":
    main()
