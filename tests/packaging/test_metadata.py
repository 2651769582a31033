"""What the project says about itself in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import e2rank_integrations
from tests.packaging.examples import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ASKED = [
    Requirement(text)
    for group in (
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        PROJECT["dependency-groups"]["demo"],
    )
    for text in group
]


def pins(name: str) -> dict[str, str]:
    """The versions that a constraints file names."""
    found = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_the_version_is_said_once() -> None:
    """pyproject.toml, the package and the changelog's latest heading agree."""
    version = PROJECT["project"]["version"]
    assert e2rank_integrations.__version__ == version
    headings = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == version


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.name)
def test_the_lowest_versions_lie_in_the_supported_range(asked: Requirement) -> None:
    """What is tested is what is promised: each dependency is pinned, within the range that users get."""
    assert asked.specifier.contains(pins("constraints-lowest.txt")[canonicalize_name(asked.name)])


@pytest.mark.parametrize("asked", [asked for asked in ASKED if asked.name != "torch"], ids=lambda asked: asked.name)
def test_the_lower_bound_is_the_version_that_was_run(asked: Requirement) -> None:
    """A lower bound that no test has run is a guess. (torch's is: see constraints-lowest.txt.)"""
    (bound,) = (part.version for part in asked.specifier if part.operator in {">=", "=="})
    lowest = pins("constraints-lowest.txt")[canonicalize_name(asked.name)]
    assert lowest == bound or re.sub(r"(\.0)+$", "", lowest) == re.sub(r"(\.0)+$", "", bound)


def test_torch_is_pinned_in_the_constraints_alone() -> None:
    """A user's own build of torch is never replaced: the package asks for a range, and the lists for one version."""
    (torch,) = (asked for asked in ASKED if asked.name == "torch")
    assert {part.operator for part in torch.specifier} == {">="}
    assert pins("constraints.txt") == {"torch": pins("constraints-lowest.txt")["torch"]}
