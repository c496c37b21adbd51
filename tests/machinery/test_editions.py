"""The student's edition checks without an answer in it; the teacher's has the answers and what wrong ones reveal."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from html import unescape

import jupytext
import nbformat
import numpy as np
import pytest

from crosscheck.lesson import colab, editions, exercises, make, projects, rules
from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.exercises import check
from crosscheck.lesson.stored import decode, encode, load

TWO = ["attention", "masked_softmax"]
ROOT = make.FOLDER.parent


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build") / "student"
    editions.student(folder, TWO)
    return folder


@pytest.fixture(scope="module")
def whole_text(tmp_path_factory):
    """All text of the student's edition of every lesson and project."""
    folder = tmp_path_factory.mktemp("whole") / "student"
    editions.student(folder, [*exercises.lessons_with_exercises(), "index", *projects.projects()])
    return words_of(folder)


def squeezed(line):
    return re.sub(r"\s", "", line)


def lines_of(text):
    """Lines of code that say something, without their spaces and the names of wrong answers before them."""
    lines = [re.sub('^"[^"]*"[:,]?', "", squeezed(line)) for line in text.splitlines()]
    return {line for line in lines if len(line) >= 12 and not line.startswith(("def", "import", "from", "#"))}


@cache
def taught():
    """The lessons above their exercises, where code may be shown that an answer uses too."""
    scripts = (path.read_text().split("# ## Exercises")[0] for path in make.FOLDER.glob("*.py"))
    return squeezed("\n".join(scripts).replace("\n# ", "\n"))


def words_of(folder):
    """All text in a folder: of notebooks their cells, of arrays nothing."""
    notebooks = [cell.source for path in sorted(folder.rglob("*.ipynb")) for cell in rules.read(path).cells]
    others = [path.read_text() for path in folder.rglob("*") if path.suffix in (".py", ".json", ".md")]
    return squeezed("\n".join(notebooks + others))


def secrets(name):
    """Lines of answers, wrong answers and solutions, but for those that a lesson teaches above its exercises."""
    source = (ROOT / "exercises" / f"{name}.py").read_text()
    notebook = jupytext.read(make.FOLDER / f"{name}.py")
    solutions = [found for cell in notebook.cells for pair in rules.SOLUTION.findall(cell.source) for found in pair if found]
    assert len(solutions) == 3
    return {line for part in [source, *map(unescape, solutions)] for line in lines_of(part) if line not in taught()}


def test_nothing_of_an_answer_is_in_the_students_folder(whole_text):
    for name in exercises.lessons_with_exercises():
        secret = secrets(name)
        assert len(secret) > 20
        assert [line for line in sorted(secret) if line in whole_text] == [], name


@pytest.mark.parametrize("name", projects.projects())
def test_nothing_of_a_solution_of_a_project_is_in_the_students_folder(name, whole_text):
    cells = jupytext.read(projects.FOLDER / "solutions" / f"{name}.py").cells[1:]  # below what it imports
    secret = {line for cell in cells for line in lines_of(cell.source) if line not in taught()}
    assert len(secret) > 10
    assert [line for line in sorted(secret) if line in whole_text] == []


def test_projects_stand_in_a_folder_of_their_own(tmp_path):
    editions.student(tmp_path / "student", ["transformer_decoder", "sorting"])
    folder = tmp_path / "student" / "projects"
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"sorting.ipynb", "sorting.py"}
    notebook = rules.read(folder / "sorting.ipynb")
    assert not rules.outputs(notebook) and len(projects.stubs(notebook)) == 5
    links = re.findall(r"\]\((\.\.[^)]*)\)", "".join(cell.source for cell in notebook.cells))
    assert links == ["../transformer_decoder.ipynb"] and (folder / links[0]).is_file()


def test_the_teacher_has_solved_projects_too(tmp_path):
    editions.teacher(tmp_path / "teacher", ["sorting"])
    folder = tmp_path / "teacher" / "projects"
    assert {path.name for path in folder.glob("*.ipynb")} == {"sorting.ipynb", "sorting_solved.ipynb"}
    text = "".join(cell.source for cell in rules.read(folder / "sorting_solved.ipynb").cells)
    assert "# your turn" not in text and "math.comb" in text and text.count('check("sorting/') == 5
    assert (folder / "milestones" / "sorting.py").is_file()


@pytest.mark.parametrize("name", projects.projects())
def test_a_project_says_in_the_students_folder_that_nothing_is_begun(name, tmp_path):
    editions.student(tmp_path / "student", [name])
    cells = [cell.source for cell in rules.code_cells(rules.read(tmp_path / "student" / "projects" / f"{name}.ipynb"))]
    program = (
        "\n".join(cells) + "\nimport sys\nassert 'milestones' in task.__file__ and 'student' in task.__file__, task.__file__\n"
    )
    folder = tmp_path / "student" / "projects"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("not yet: ") == program.count("check(")


def test_an_answer_that_slips_in_is_seen(student, tmp_path):
    """The check above, planted."""
    shutil.copytree(student, tmp_path / "student")
    (tmp_path / "student" / "slip.md").write_text("    shifted  = x - x.max()")
    assert "shifted=x-x.max()" in words_of(tmp_path / "student")
    assert "shifted=x-x.max()" in lines_of((ROOT / "exercises/masked_softmax.py").read_text())


def test_there_are_no_outputs_solutions_or_links_into_the_clone(student):
    for name in TWO:
        notebook = rules.read(student / f"{name}.ipynb")
        text = "".join(cell.source for cell in notebook.cells)
        assert not rules.outputs(notebook) and "Solution" not in text and "](../" not in text
        assert text.count("<summary>Hint</summary>") == 3 and "To discuss" in text and "## Summary" in text
        assert text.count(f'check("{name}/') == 3
        nbformat.validate(notebook)


def test_stored_files_are_plain(student):
    for name in TWO:
        with np.load(student / "exercises" / f"{name}.npz", allow_pickle=False) as arrays:
            assert {arrays[key].dtype.kind for key in arrays} <= set("fiub")
        data = json.loads((student / "exercises" / f"{name}.json").read_text())
        assert [exercise["name"] for exercise in data["exercises"]] == [e.name for e in exercises.exercises_of(name)]
    assert sum(path.stat().st_size for path in student.rglob("*.npz")) < 200_000


@pytest.mark.parametrize("name", [f"{chapter}/{number}" for chapter in TWO for number in (1, 2, 3)])
def test_right_passes_and_wrong_is_refused_in_the_students_folder(student, name, monkeypatch, capsys):
    monkeypatch.chdir(student)
    monkeypatch.setattr(exercises, "FOLDER", student / "nowhere")
    chapter, number = name.split("/")
    original = exercises.exercises_of(chapter)[int(number) - 1]
    assert all(check(name, right) for right in [original.answer, *original.right.values()])
    assert not any(check(name, wrong) for wrong in original.wrong.values())
    assert not check(name, lambda *given, **more: None)
    assert capsys.readouterr().out.endswith("not yet: it returns nothing\n")


def test_the_folder_may_be_moved_and_needs_no_answers(student, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.unpack_archive(f"{student}.zip", moved)
    program = (
        "import sys; from exercises import check; import crosscheck.lesson.exercises as machine\n"
        "import numpy as np; right = lambda x: x - np.logaddexp.reduce(x)\n"
        "assert check('masked_softmax/1', right) and machine.check('masked_softmax/1', right)\n"
        "assert not check('masked_softmax/1', lambda x: x - x.max())\n"
        "assert not [name for name in sys.modules if name.startswith('exercises.')]\n"
    )
    command = [sys.executable, "-c", program]
    ran = subprocess.run(
        command, cwd=moved / "student", env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("right\nright\nfor ")


def test_the_zip_holds_the_folder(student):
    names = zipfile.ZipFile(f"{student}.zip").namelist()
    assert {"student/README.md", "student/masked_softmax.ipynb", "student/exercises/masked_softmax.npz"} <= set(names)


def test_another_version_of_the_checks_is_refused(student, tmp_path):
    file = tmp_path / "masked_softmax.json"
    file.write_text((student / "exercises/masked_softmax.json").read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ValueError, match="another version of the course"):
        load(file)


def test_what_is_no_data_is_not_stored():
    with pytest.raises(ValueError, match="cannot be stored"):
        encode(np.array([None, 1]), {})
    with pytest.raises(ValueError, match="cannot be stored"):
        encode(len, {})
    arrays = {}
    value = {"a": (1, [2.5, None, "text"], Draw((2, 3))), "b": np.arange(3)}
    back = decode(json.loads(json.dumps(encode(value, arrays))), arrays)
    assert back["a"] == value["a"] and np.array_equal(back["b"], value["b"])


def test_a_lesson_without_stored_checks_keeps_its_summary_alone():
    cells = jupytext.reads(
        "# %% [markdown]\n# ## Exercises\n# **1**\n\n# %%\ncheck(3)\n\n# %% [markdown]\n# x\n# ## Summary\n# y", "py"
    ).cells
    (left,) = editions.without_exercises(cells)
    assert left.source == "## Summary\ny"


def test_a_guide_is_in_both_editions_whole_and_without_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    (tmp_path / "tpu.py").write_text("# %% [markdown]\n# # Made up\n\n# %%\nprint(1)\n\n# %% [markdown]\n# ## Summary\n")
    for write in (editions.student, editions.teacher):
        folder = tmp_path / write.__name__
        write(folder, ["tpu"])
        cells = colab.plain(rules.read(folder / "tpu.ipynb")).cells
        assert [cell.source for cell in cells] == ["# Made up", "print(1)", "## Summary"] and not cells[1].outputs
    assert "tpu" not in (tmp_path / "teacher" / "NOTES.md").read_text()


def test_the_teachers_notes_say_what_wrong_answers_reveal(tmp_path):
    editions.teacher(tmp_path / "teacher", ["masked_softmax"])
    notes = (tmp_path / "teacher" / "NOTES.md").read_text()
    assert "### masked_softmax/1 `log_softmax`: easy, 5 minutes" in notes
    assert "- **a constant shift**: for scores of 1,000" in notes
    assert notes.count("minutes\n") == 3 and "To discuss: " in notes
    text = "".join(cell.source for cell in rules.read(tmp_path / "teacher" / "masked_softmax.ipynb").cells)
    assert text.count("<summary>Solution</summary>") == 3


def test_a_wrong_edition_or_lesson_is_refused(capsys):
    assert editions.main(["student", "atention"]) == 2
    assert "no lesson or project is called 'atention'. The nearest: attention" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        editions.main(["parents"])
    assert stopped.value.code == 2
