"""Run `pip install` with the given arguments: one line that moves on a terminal, pip's whole output on failure.

Plain `pip install` of this project prints hundreds of lines; with `--quiet` it shows nothing for minutes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PIP = (sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
STEPS = ("Collecting ", "Downloading ", "Processing ", "Building ", "Installing ", "Obtaining ")
WIDTH = 78


def main(arguments: list[str]) -> int:
    """Install, and return pip's exit status."""
    # The first version that reads dependency groups; the copy that a new environment comes with may be older.
    subprocess.run([*PIP, "--quiet", "pip>=25.1"], check=True)
    started = time.monotonic()
    with subprocess.Popen([*PIP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        output = list(shown(pip.stdout or ()))
    if pip.returncode:
        print("".join(output), file=sys.stderr)
    else:
        print(f"  done in {time.monotonic() - started:.0f} s")
    return pip.returncode


def shown(lines: Iterable[str]) -> Iterable[str]:
    """Pass pip's lines on, and on a terminal show the step that it is at."""
    for line in lines:
        step = line.strip()
        if sys.stdout.isatty() and step.startswith(STEPS):
            print(f"\r  {step[:WIDTH]:<{WIDTH}}", end="", flush=True)
        yield line
    if sys.stdout.isatty():
        print(f"\r{'':<{WIDTH + 2}}\r", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
