"""`python -m tests.conformance`: run the suite and write docs/conformance.md anew."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.conformance import report, suite

PAGE = suite.ROOT / "docs" / "conformance.md"


def main() -> None:
    """Run every case, write the page, and fail where an outcome breaks the contract."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = suite.run(Path(folder))
    PAGE.write_text(report.table(run))
    wrong = [f"{outcome.case.id}: {words}" for outcome in run.outcomes for words in report.violations(outcome)]
    print(f"{len(run.outcomes)} cases in {time.monotonic() - began:.0f} s, {len(wrong)} against the contract: {PAGE}")
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
