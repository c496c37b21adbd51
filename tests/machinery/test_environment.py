"""The places that name what the project needs say the same."""

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"] + [line for lines in EXTRAS.values() for line in lines]]
COLAB = {"keras": "3.10.0", "tensorflow": "2.19.1", "tensorflow-text": "2.19.0", "numpy": "2.0.2", "jax": "0.7.2"}
"""What Colab has, about; its Python is 3.12."""


def lines_of(file):
    return [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]


def pins_of(file):
    return {name: pin for name, pin in (line.split("  # ")[0].split("==") for line in lines_of(file))}


PINS, OLDEST = pins_of("requirements.txt"), pins_of("requirements-oldest.txt")
FOR_TESTS = set(PINS) - set(OLDEST)


@pytest.mark.parametrize("line", lines_of("requirements.txt") + lines_of("requirements-oldest.txt"))
def test_each_requirement_is_pinned_and_says_why_it_is_there(line):
    assert re.fullmatch(r"[a-z-]+==[\w.]+  # .{10,}", line)


@pytest.mark.parametrize("name", PINS)
def test_each_pinned_version_is_what_runs_here(name):
    assert version(name) == PINS[name]


@pytest.mark.parametrize("requirement", NEEDED, ids=str)
def test_what_the_package_needs_is_pinned_and_the_oldest_pin_is_the_lower_bound(requirement):
    (bound,) = requirement.specifier
    assert (bound.operator, bound.version) == (">=", OLDEST[requirement.name])
    assert PINS[requirement.name] in requirement.specifier
    assert COLAB.get(requirement.name, PINS[requirement.name]) in requirement.specifier


def test_the_package_needs_all_that_is_pinned_but_what_the_tests_run_with():
    assert set(OLDEST) == {requirement.name for requirement in NEEDED}
    after = (ROOT / "requirements.txt").read_text().split("# The tests\n")[1]
    assert FOR_TESTS == {line.split("==")[0] for line in after.splitlines()}


def test_no_pin_is_older_than_the_oldest():
    assert [name for name in OLDEST if Version(OLDEST[name]) > Version(PINS[name])] == []


def pythons():
    """The Pythons that the Makefile takes, for which TensorFlow is built; the package itself sets no upper bound."""
    (least, bound) = re.search(r"\((3, \d+)\) <= sys.version_info < \((3, \d+)\)", (ROOT / "Makefile").read_text()).groups()
    assert PROJECT["requires-python"] == f">={least.replace(', ', '.')}"
    return SpecifierSet(f">={least.replace(', ', '.')},<{bound.replace(', ', '.')}")


def test_the_versions_that_are_tried_are_the_pythons_that_are_allowed():
    sys.path.insert(0, str(ROOT / "tests" / "smoke"))
    try:
        from run import CHECKS
    finally:
        sys.path.pop(0)
    allowed = pythons()
    tried = {check.python for check in CHECKS.values() if check.python}
    assert tried == {f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in allowed}
    assert "3.12" in allowed, "what Colab has"
    assert {check.requirements for check in CHECKS.values()} == {"requirements.txt", "requirements-oldest.txt"}


def test_conda_gets_the_same_python_and_the_same_requirements():
    lines = [line.strip(" -") for line in (ROOT / "environment.yml").read_text().splitlines()]
    (python,) = (line for line in lines if line.startswith("python"))
    assert SpecifierSet(python.removeprefix("python")) == pythons()
    assert lines[lines.index("pip:") + 1 :] == ["r requirements.txt", "e ."]
