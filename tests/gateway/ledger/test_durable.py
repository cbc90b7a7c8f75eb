"""Small files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.ledger import durable


@pytest.mark.parametrize("ends", ["writes", "removes"])
def test_what_a_killed_writer_left_goes_with_the_next_turn(tmp_path: Path, ends: str) -> None:
    """It may hold what an erasure looks for; what lies beside another file stays."""
    file, left, other = tmp_path / "a.json", tmp_path / ".a.json.4711", tmp_path / ".b.json.4711"
    for path in (left, other):
        path.write_text("whom nobody shall find")
    if ends == "writes":
        durable.write(file, b"{}")
    else:
        durable.remove(file)
    assert not left.exists()
    assert other.exists()
