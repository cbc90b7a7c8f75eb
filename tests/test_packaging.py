"""What is locked, what is shipped, and what setup does with an environment that is half there."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = sorted(ROOT.glob("requirements/*.txt"))
PACKAGES = ("gateway", "detector", "distiller", "dashboards")
PINNED = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)(\[[a-z0-9,_-]+\])?==(?P<version>[^\s;]+)", re.IGNORECASE)
BUILD_WHEEL = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def _requirements(lock: Path) -> list[str]:
    """Each requirement of a lock as one line, its hashes included and comments left out."""
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines() if line.strip()]


def _pins(lock: Path) -> dict[str, str]:
    """Canonical name → version."""
    matches = (PINNED.match(line) for line in _requirements(lock))
    return {re.sub(r"[-_.]+", "-", match["name"]).lower(): match["version"] for match in matches if match}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_requirement_is_pinned_and_hashed(lock: Path) -> None:
    """What is installed tomorrow is, byte for byte, what was installed today."""
    requirements = _requirements(lock)
    assert requirements
    loose = [line for line in requirements if not PINNED.match(line) or "--hash=sha256:" not in line]
    assert loose == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_name_no_index(lock: Path) -> None:
    """A lock works with whichever index its reader has configured: it names no host, index or folder."""
    text = lock.read_text()
    assert re.findall(r"^\s*-(?!-hash=).*$|.*://.*", text, re.MULTILINE) == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_compromised_litellm_is_never_locked(lock: Path) -> None:
    """LiteLLM 1.82.7 and 1.82.8 were published with a credential stealer in them."""
    assert _pins(lock).get("litellm") not in {"1.82.7", "1.82.8"}


def test_the_checks_run_on_the_releases_that_ship() -> None:
    """The locks of runtime and development agree on every package of the runtime."""
    runtime, development = _pins(ROOT / "requirements/gateway.txt"), _pins(ROOT / "requirements/dev.txt")
    assert runtime.items() <= development.items()


@pytest.mark.parametrize("source", sorted(ROOT.glob("requirements/*.in")), ids=lambda source: source.name)
def test_every_named_package_is_locked(source: Path) -> None:
    """A package that was added to an `.in` file has been locked too (`make lock`)."""
    named = re.findall(r"^([a-zA-Z0-9][\w.-]*)", source.read_text(), re.MULTILINE)
    locked = _pins(source.with_suffix(".txt"))
    assert [name for name in named if re.sub(r"[-_.]+", "-", name).lower() not in locked] == []


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """The wheel carries all modules, migrations, templates, style sheets and scripts, and no caches."""
    # A copy, because building in the checkout would leave build/ behind and ship what an older one left there.
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD_WHEEL, "dist"], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("dist/spiritsafe-*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*")}
    expected = {name for name in sources if (ROOT / name).is_file() and "__pycache__" not in name}
    assert shipped == expected


def test_entry_points_lead_somewhere() -> None:
    """Every command, page and process that the distribution announces can be loaded."""
    groups = ("commands", "operator_apps", "processes")
    announced = [entry for group in groups for entry in entry_points(group=f"spiritsafe.{group}")]
    assert {entry.name for entry in announced} == {"detector", "alerts", "distill", "console"}
    for entry in announced:
        assert entry.load() is not None


@pytest.mark.slow
def test_setup_redoes_what_was_interrupted_and_nothing_else(tmp_path: Path) -> None:
    """An environment whose install was cut short, or whose lock changed, is made anew; a complete one is left alone."""
    lock, folder = tmp_path / "lock.txt", tmp_path / "venv"
    lock.write_text("# a comment\n")
    trace = folder / "left-by-the-last-install"

    def setup() -> bool:
        """Run the setup; True when it left the environment alone."""
        command = [ROOT / "requirements/install.sh", folder, lock]
        subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable}, capture_output=True)
        kept = trace.exists()
        trace.touch()
        return kept

    assert not setup()
    assert setup()
    lock.write_text("# another comment\n")
    assert setup()
    (folder / ".installed").unlink()
    assert not setup()
