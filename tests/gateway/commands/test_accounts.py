"""`spiritsafe accounts …`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.gateway.commands.cli import Cli


def test_an_account_is_created_and_listed(cli: Cli) -> None:
    """What was asked for on the command line stands in the list."""
    (made,) = cli.rows("accounts", "create", "app", "--consent", "--operator", "--tier", "pro")
    assert (made["name"], made["tier"], made["operator"]) == ("app", "pro", True)
    assert made["consent"].endswith("Z")
    cli.run("accounts", "create", "plain")
    listed = {row["name"]: row for row in cli.rows("accounts", "list")}
    assert listed["app"] == made
    assert (listed["plain"]["consent"], listed["plain"]["operator"]) == (None, False)
    text = cli.run("accounts", "list").stdout.splitlines()
    assert text[0].split() == [*("name", "tier", "operator", "consent", "enforcement", "hold", "keep_text", "created")]
    assert len(text) == 3


def test_a_taken_name_ends_with_the_remedy(cli: Cli) -> None:
    """One line on stderr, nothing on stdout, exit status 1; the consent asked for is not granted either."""
    cli.run("accounts", "create", "app")
    result = cli.run("accounts", "create", "app", "--consent", exit_code=1)
    assert result.stdout == ""
    assert result.stderr == "error: account 'app' exists already: choose another name, or create a key for it\n"
    assert cli.rows("accounts", "list")[0]["consent"] is None


def test_accounts_are_imported_from_a_file_or_stdin(cli: Cli, tmp_path: Path) -> None:
    """Good lines in, bad ones aside and told, known ones left alone."""
    file = tmp_path / "accounts.jsonl"
    file.write_text("\ufeff" + json.dumps({"account": "a", "consent": {"purpose": "training"}}) + "\n{}\n")
    (report,) = cli.rows("accounts", "import", str(file))
    assert (report["rows"], report["already"], report["rejected"]) == (1, 0, 1)
    assert Path(report["rejected_file"]).exists()
    result = cli.run("accounts", "import", "-", stdin=file.read_text())
    assert result.stdout.splitlines()[:3] == ["rows: 0", "already: 1", "rejected: 1"]
    assert "line 2: account is missing" in result.stderr
    assert cli.rows("accounts", "list")[0]["consent"] is not None


def test_an_end_user_opts_out_and_back_in(cli: Cli) -> None:
    """The account's word about one of its users stands until it is lifted; an unknown account is an error."""
    cli.run("accounts", "create", "app")
    for options, opted_out in (((), True), ((), True), (("--lift",), False)):
        (row,) = cli.rows("accounts", "opt-out", "app", "--user", "ana", *options)
        assert row == {"account": "app", "user": "ana", "opted_out": opted_out}
    assert "nobody" in cli.run("accounts", "opt-out", "nobody", "--user", "ana", exit_code=1).stderr
