"""The three places that name what the project needs say the same."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = {name: pin for name, pin in (line.split("  # ")[0].split("==") for line in PINNED)}


@pytest.mark.parametrize("line", PINNED)
def test_each_requirement_is_pinned_and_says_why_it_is_there(line):
    assert re.fullmatch(r"[a-z-]+==[\w.]+  # .{10,}", line)


@pytest.mark.parametrize("name", PINS)
def test_each_pinned_version_is_what_runs_here(name):
    assert version(name) == PINS[name]


def test_what_the_package_needs_is_pinned_and_allowed():
    needed = PROJECT["dependencies"] + [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, needed):
        assert PINS[requirement.name] in requirement.specifier


def test_conda_gets_the_same_python_and_the_same_requirements():
    lines = [line.strip(" -") for line in (ROOT / "environment.yml").read_text().splitlines()]
    (python,) = (line for line in lines if line.startswith("python"))
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert lines[lines.index("pip:") + 1 :] == ["r requirements.txt", "e ."]
