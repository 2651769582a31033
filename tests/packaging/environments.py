"""Environments into which the wheel is installed, each with one extra.

Six environments with a torch of their own would take many minutes and gigabytes. So the hard dependencies are
installed once, into a base that is kept in `.venv-wheel` for as long as they stay the same. Every other environment
is made afresh, and sees the base through a `.pth` file: pip finds the hard dependencies there, as it would in the
environment itself, and installs the wheel and what its extra brings, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.packaging.examples import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HOME = ROOT / ".venv-wheel"
CONSTRAINTS = ROOT / "constraints.txt"


@dataclass(frozen=True)
class Environment:
    """A virtual environment without the rest of this machine: no user site, no current folder, no hub."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next(self.folder.glob("lib/python*/site-packages"))

    def install(self, *requirements: str) -> None:
        """Install with this session's pip, which must find everything or fail."""
        constrained = ("install", "--quiet", "--no-input", "--no-compile", "-c", str(CONSTRAINTS), *requirements)
        checked([sys.executable, "-m", "pip", "--python", str(self.python), *constrained])

    def run(self, code: str, folder: Path) -> str:
        """Run a program in a folder, where a warning is an error, and return what it printed."""
        outside = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "SYSTEMROOT"}}
        inside = {"HOME": str(folder), "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
        return checked([self.python, "-I", "-W", "error", "-c", code], cwd=folder, env=outside | inside)


def make(name: str, *under: Environment) -> Environment:
    """An empty environment that sees the packages of others."""
    folder = HOME / name
    checked([sys.executable, "-m", "venv", "--clear", "--without-pip", folder])
    made = Environment(folder)
    (made.packages / "under.pth").write_text("\n".join(str(other.packages) for other in under), encoding="utf-8")
    return made


def base() -> Environment:
    """The hard dependencies alone, installed when they, the constraints or the interpreter have changed."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    wanted = hashlib.sha256(repr((dependencies, CONSTRAINTS.read_bytes(), sys.version)).encode()).hexdigest()
    stamp = HOME / "base" / "stamp"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return Environment(HOME / "base")
    made = make("base")
    made.install(*dependencies)
    stamp.write_text(wanted, encoding="utf-8")
    return made


def checked(command: list[str | Path], **options: object) -> str:
    """Run a command and return its output; if it fails, so does the test, with all it said."""
    run = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert run.returncode == 0, f"{command[0]} said:\n{run.stdout}{run.stderr}"
    return run.stdout
