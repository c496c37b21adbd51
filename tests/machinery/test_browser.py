"""The half of each lesson that is for a browser runs without Keras; and what decides which cells that are sees what they need."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course.browser import __main__ as command
from course.browser import lesson, names
from course.browser.cells import Known, names_of
from crosscheck.catalogue import lessons as names_of_lessons
from crosscheck.lesson import absent, make

ROOT = make.FOLDER.parent
THREE = ("bert_tokenizer", "gated_feedforward", "transformer_decoder")
NO_JUPYTERLITE = pytest.mark.skipif(
    find_spec("jupyterlite_core") is None or find_spec("jupyterlite_pyodide_kernel") is None,
    reason="JupyterLite is not installed: pip install --requirement course/requirements.txt",
)


def run(notebooks, folder):
    """What `browser_kernel.py` says of each notebook, where only the packages lie that are in the wheel."""
    packages = folder / "site packages"
    packages.mkdir()
    for package in ("reference", "crosscheck", "experiments"):
        (packages / package).symlink_to(ROOT / package)
    for name, notebook in notebooks.items():
        nbformat.validate(notebook)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    program = [sys.executable, str(Path(__file__).with_name("browser_kernel.py")), str(ROOT / "requirements.txt")]
    files = [f"{name}.ipynb" for name in notebooks]
    environment = os.environ | {"PYTHONPATH": str(packages)}
    ran = subprocess.run([*program, *files], cwd=folder, env=environment, capture_output=True, text=True)
    said = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert len(said) == len(notebooks), ran.stderr
    return {each["name"]: each for each in said}


def check_run(chosen, folder):
    notebooks = {name: lesson.in_browser(name) for name in chosen}
    for name, found in run(notebooks, folder).items():
        assert found["error"] is None, f"{name}: {found['error']}"
        code = [cell.source for cell in notebooks[name].cells if cell.cell_type == "code"]
        assert found["cells"] == len(code) >= 6
        packages, ours = found["asked"]
        assert packages[1] and ours == ["transformer-layers-three-times", False]
        assert ("scipy" in packages[0]) == any("scipy" in source for source in code[1:]), name


def test_every_lesson_is_made_for_a_browser():
    assert set(lesson.lessons()) == set(names_of_lessons())


def test_three_lessons_run_without_keras(tmp_path):
    check_run(THREE, tmp_path)


@pytest.mark.further
def test_every_lesson_runs_without_keras(tmp_path):
    check_run([name for name in lesson.lessons() if name not in THREE], tmp_path)


def test_what_a_browser_has_not_cannot_be_imported_in_these_tests(tmp_path):
    notebooks = {
        name: new_notebook(cells=[new_code_cell(code)])
        for name, code in {
            "keras": "import keras",
            "tensorflow": "import tensorflow.data",
            "jax": "from jax import numpy",
            "layers": "import layers.attention",
            "wrong": "assert 1 + 1 == 3",
            "right": "from importlib.util import find_spec\nassert find_spec('safetensors') is None",
            "friends": "from crosscheck.lesson import counting, diagram, exercises, figures, measuring, moving",
        }.items()
    }
    found = run(notebooks, tmp_path)
    for name in ("keras", "tensorflow", "jax", "layers"):
        assert "ModuleNotFoundError" in found[name]["error"], found[name]
    assert "AssertionError" in found["wrong"]["error"]
    assert found["right"]["error"] is None and found["friends"]["error"] is None, found


@pytest.mark.parametrize("name", lesson.lessons())
def test_a_lesson_in_a_browser_begins_and_ends_as_it_should(name):
    notebook = lesson.in_browser(name)
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = lesson.HEADING.findall(text)
    assert headings[0] == "The question" and "By hand" in headings and headings[-1] == "What it does"
    assert "](../" not in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    inside = [link for link in links if not link.startswith(("http", "data:"))]
    assert {link.split("#")[0] for link in inside} <= {f"{other}.ipynb" for other in lesson.lessons()}
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert "piplite" in code[0] and not any("piplite" in source for source in code[1:])
    imported = {place.module.split(".")[0] for source in code[1:] for place in imports_of(source)}
    assert not imported & set(absent.ABSENT)
    for section in re.split(r"(?m)^## ", text):
        assert section.count("*Left out here: ") <= 1


def imports_of(source):
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [place for node in nodes for place in names.imported(node).values()]


def lacked(*cells):
    """What the last of some cells lacks, and the names that are lost after all of them."""
    known, needed = Known(), set()
    for source in cells:
        statements = ast.parse(source).body
        needed = known.lacked_by(statements)
        known.leave_out(statements, needed) if needed else known.run(statements)
    return needed, set(known.lost)


@pytest.mark.parametrize(
    ("cells", "needed"),
    [
        (["import keras", "x = 1"], set()),
        (["import keras", "x = keras.ops.ones(3)"], {"Keras"}),
        (["from keras import ops", "x = ops.ones(3)", "y = x + 1", "print(y)"], {"Keras"}),
        (["import keras", "x = keras.ops.ones(3)", "x = 2", "print(x)"], set()),
        (["import keras", "x = keras.ops.ones(3)", "x += 2"], {"Keras"}),
        (["import keras", "x = keras.ops.ones(3)", "x[0] = 2"], {"Keras"}),
        (["import keras", "x = keras.ops.ones(3)", "def f(x):\n    return x", "f(1)"], set()),
        (["import keras", "x = keras.ops.ones(3)", "def f(y):\n    return x + y"], {"Keras"}),
        (["import keras", "def f(y):\n    return keras.ops.sum(y)", "print(f(1))"], {"Keras"}),
        (["import keras", "x = keras.ops.ones(3)", "[x for x in range(3)]"], set()),
        (["import keras", "x = keras.ops.ones(3)", "[y for y in range(3) if y in x]"], {"Keras"}),
        (["import jax.numpy as jnp", "jnp.ones(3)"], {"JAX"}),
        (["from layers.attention import MultiHeadAttention", "layer = MultiHeadAttention(1, 2)"], {"Keras"}),
        (["import keras\nkeras = 3", "print(keras)"], {"Keras"}),
        (["def f():\n    import tensorflow as tf\n    return tf", "f()"], {"TensorFlow"}),
        (["from crosscheck.models import minilm", "minilm.load()"], {"the weights of a real model"}),
        (["from crosscheck.models import minilm", "print(minilm.PACKAGE)"], set()),
        (["from experiments import attention as e", "e.train_copier('1 head', 0.1, 0)"], {"Keras"}),
        (["from experiments import attention as e", "e.FLOOR, e.COPIERS"], set()),
        (["from experiments.attention import draw", "draw(3)"], set()),
        (["from experiments.attention import Copier", "Copier(1, 1)"], {"Keras"}),
        (["from crosscheck.lesson import figures", "figures.show()"], set()),
        (["from experiments.common import results", "results.stored('attention')"], set()),
        (["from crosscheck.lesson import figures", "figures.agreement_line(3)"], {"Keras"}),
        (["from reference import attention as ref", "ref.attend(1, 2, 3)"], set()),
    ],
)
def test_what_a_cell_lacks_is_seen(cells, needed):
    found, _ = lacked(*cells)
    assert found >= needed if "agreement_line" in cells[-1] else found == needed


def test_a_name_is_lost_until_a_cell_that_is_kept_defines_it():
    assert lacked("import keras", "x, (y, *z) = keras.f()")[1] == {"keras", "x", "y", "z"}
    assert lacked("import keras", "x, y = keras.f()", "x = 1")[1] == {"keras", "y"}


def test_the_names_of_a_statement():
    assert names_of(ast.parse("a = b + (lambda c: c + d)(e)").body[0]) == ({"b", "d", "e"}, {"a"})
    assert names_of(ast.parse("for i in x:\n    y = i").body[0]) == ({"x", "i"}, {"i", "y"})


def test_of_the_first_cell_only_what_can_run_and_is_needed_is_kept():
    source = (
        "import keras\nimport numpy as np, re\nfrom layers import X\n\nx = keras.ops.ones(3)\ny = np.ones(\n    3)  # here\nz = x"
    )
    known = Known()
    setup = "\n".join(known.kept_of(source))
    assert setup == "import numpy as np\nimport re\ny = np.ones(\n    3)"
    assert set(known.lost) == {"keras", "X", "x", "z"}
    assert lesson.needed_of(setup, ["print(y)"]) == "import numpy as np\ny = np.ones(\n    3)"


def test_the_last_section_ends_where_the_next_heading_stands():
    texts = ["# A\n\n## The question", "## What it does\n\nYes.", "More.\n\n## Where it breaks\n\nNo.", "Never."]
    found = [(section, cell.source) for section, cell in lesson.kept_sections(map(new_markdown_cell, texts))]
    assert found == [("The question", texts[0]), ("What it does", texts[1]), ("What it does", "More.")]


def test_a_section_has_one_line_on_what_is_left_out():
    cell = new_code_cell("1")
    found = list(lesson.with_notes([("A", {"Keras", "JAX"}), ("A", cell), ("A", {"a clone"}), ("B", {"TensorFlow", "JAX"})]))
    assert found[1] is cell and [each.source for each in (found[0], found[2])] == [
        "*Left out here: 2 cells, for want of Keras and a clone.*",
        "*Left out here: a cell, for want of JAX and TensorFlow.*",
    ]


def test_a_wrong_lesson_or_folder_is_refused(tmp_path, capsys):
    assert command.main(["atention"]) == 2
    assert "no lesson is called 'atention'. The nearest: attention" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("")
    assert command.main(["--output", str(tmp_path)]) == 2
    assert f"must be a new folder, or one with an older site. Received: {tmp_path}" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()


def test_without_jupyterlite_it_is_said_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command.main(["--output", str(tmp_path / "new")]) == 2
    assert "jupyterlite_core and jupyterlite_pyodide_kernel: pip install" in capsys.readouterr().err


def test_help_says_what_it_takes_and_when_it_fails(said_by_help):
    said = said_by_help(command.main)
    assert all(part in said for part in ("usage: course.browser", "NAME", "examples:", "exit status:")), said


@NO_JUPYTERLITE
def test_the_site_has_the_lessons_the_kernel_and_our_wheel(tmp_path):
    folder = tmp_path / "a site"
    assert command.main(["masked_softmax", "--output", str(folder)]) == 0
    assert [path.name for path in (folder / "files").iterdir()] == ["masked_softmax.ipynb"]
    assert (folder / "lab" / "index.html").is_file()
    wheels = json.loads((folder / "pypi" / "all.json").read_text())
    (release,) = wheels["transformer-layers-three-times"]["releases"].values()
    assert (folder / "pypi" / release[0]["filename"]).is_file() and release[0]["requires_python"] == ">=3.11"
    data = json.loads((folder / "jupyter-lite.json").read_text())["jupyter-config-data"]
    assert [each["name"] for each in data["federated_extensions"]] == ["@jupyterlite/pyodide-kernel-extension"]
    assert command.is_ours(folder)
