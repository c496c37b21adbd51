"""What the package is made of, how it is found, and that it says so when something else has its names."""

import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = ("reference", "layers", "crosscheck")


def run(arguments, folder):
    """A Python in `folder`, to which the project is installed but its own folder is not the current one."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


def test_the_text_that_models_learn_from_is_the_license():
    assert (ROOT / "crosscheck/models/apache-2.0.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_files_that_are_no_python_are_in_the_wheel(package):
    """`tests/smoke/run.py` looks into the wheel itself; this says earlier what pyproject.toml lacks."""
    patterns = SETUPTOOLS["package-data"].get(package, [])
    files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = [path.relative_to(ROOT / package).as_posix() for path in files if path.suffix != ".py"]
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_code_is_a_package(package):
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", ["layers", "reference"])
@pytest.mark.parametrize("place", ["{}.py", "{}/__init__.py"])
def test_a_file_or_folder_with_our_name_is_named_in_the_error(name, place, tmp_path):
    file = tmp_path / place.format(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    status, said = run(["-m", "crosscheck", "masked_softmax"], tmp_path)
    assert status == 1
    assert f"ImportError: crosscheck needs the package {name} in {ROOT / name}, but Python finds {file} first." in said
    assert "Rename that, or run from another folder." in said


def test_a_folder_without_code_is_named_too(tmp_path):
    """Python takes it for a package where ours is not on the path but comes from a finder, as in an editable installation."""
    (tmp_path / "reference").mkdir()
    program = (
        "import crosscheck, sys\n"
        f"sys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in str(finder)]\n"
        "crosscheck.check_not_shadowed('reference')\n"
    )
    status, said = run(["-c", program], tmp_path)
    assert status == 1 and f"but Python finds {tmp_path / 'reference'} first" in said


def test_other_files_do_not_matter(tmp_path):
    (tmp_path / "my_layers.py").write_text("")
    assert run(["-c", "import crosscheck"], tmp_path) == (0, "")


def test_lessons_that_are_not_there_are_an_error(tmp_path):
    program = (
        "from pathlib import Path; from crosscheck.lesson import make\n"
        "make.FOLDER = Path('notebooks'); raise SystemExit(make.main([]))"
    )
    status, said = run(["-c", program], tmp_path)
    assert status == 2 and "make them in a clone. Missing: notebooks" in said
