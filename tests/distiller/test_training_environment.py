"""Runs the tests of the training half where torch is: in `.venv-distiller`."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ["test_chat.py", "test_pruning.py", "test_training.py", "test_probing.py"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_training_half_in_its_own_environment(require_environment: Callable[[str], Path]) -> None:
    """Chat ids, pruning and training keep their promises in the environment that they run in."""
    # The project's pytest settings name plug-ins that this environment does not have.
    options = ["-q", "-c", "/dev/null", "--rootdir", str(ROOT), "--noconftest", "-p", "no:cacheprovider"]
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    command = [str(require_environment("distiller")), "-m", "pytest", *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout
