"""Finds what is one small file each: corpora, attack strategies, benign profiles, in a package or in a folder."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

Kind = TypeVar("Kind")


def found_in_package(package: ModuleType, kind: type[Kind]) -> list[Kind]:
    """Return every instance of a class that the package's modules define, in the order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = (importlib.import_module(f"{package.__name__}.{name}") for name in names)
    return [member for module in modules for member in _members(module, kind)]


def found_in_folder(folder: Path | None, kind: type[Kind]) -> list[Kind]:
    """Return every instance of a class that the folder's Python files define; none without a folder."""
    if folder is None:
        return []
    modules = (_load(file) for file in sorted(folder.glob("*.py")))
    return [member for module in modules for member in _members(module, kind)]


def _members(module: ModuleType, kind: type[Kind]) -> Iterator[Kind]:
    return (value for value in vars(module).values() if isinstance(value, kind))


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"spiritsafe_evaluation_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
