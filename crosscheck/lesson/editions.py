"""`python -m crosscheck.lesson.editions student|teacher [NAME ...]`: the lessons for a class, and for whoever teaches it."""

import re
import shutil

import jupytext
import nbformat

from crosscheck.lesson import colab, make, projects, rules
from crosscheck.lesson.exercises import exercises_of, lessons_with_exercises, verdict
from crosscheck.lesson.rules import LINK_INTO_THE_CLONE
from crosscheck.lesson.stored import save
from crosscheck.report.command import Parser, as_program, check_known, refuse

BUILD = make.FOLDER.parent / "build"
FOLDED_SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>.*?</details>\n?", re.DOTALL)
LINK_OF_A_PROJECT = re.compile(r"\[([^\]]*)\]\(\.\./\.\./([^)]*)\)")
MINUTES = re.compile(r"\*\*(\d)\*\* \((\w+), (\d+) minutes\)\.")
DISCUSS = re.compile(r"\*\*To discuss\.\*\*(.*?)(?=\n\n|\Z)", re.DOTALL)

PACKAGE = '''\
"""The checks of the exercises: inputs, and what should come out for them. There are no answers here."""

from functools import partial
from pathlib import Path

from crosscheck.lesson import exercises

check = partial(exercises.check, folder=Path(__file__).parent)
'''

STUDENT_README = """\
# Lessons

Open a notebook in JupyterLab and run it from the top. It needs the packages `reference`, `layers` and `crosscheck`: install them
with `pip install` from the course's repository, or start JupyterLab with `PYTHONPATH` set to a clone of it.

Each lesson ends with three exercises. Replace `return None` and run the cell: it says "right", or what is wrong. Keep the folder
`exercises` beside the notebooks: the checks are in it. The inputs of a check differ in size, so a function has to work for all.

The folder `projects` has larger tasks, for the end of a part. Their milestones have stubs and checks in the same way.

To hand in a lesson, save its notebook and hand in that file alone. It is run from the top on another machine, so it must not need
files of yours. What is printed in it does not count: each function is called with new inputs. If an exercise has several checks,
the last one counts.
"""

TEACHER_README = """# The lessons, for whoever teaches them

Here are the lessons with solutions, projects with and without them, and `NOTES.md`: minutes of each exercise, what wrong answers
reveal, and questions to discuss. The course plan is `course/PLAN.md` of the repository, where all commands below are run.

1. **Hand out.** `make student` writes `build/student.zip`: lessons without solutions, and checks without answers. With
   `make student NAME="attention masked_softmax"` it has these lessons alone. Each run replaces what an earlier one wrote.
   Students also need what the lessons import. `python -m pip wheel --no-deps --wheel-dir build .` makes a file of it that holds
   no answers. They install that with `pip install`, and the rest with `pip install --requirement requirements.txt`.
2. **Collect** the notebooks in a folder for each student: `handed_in/anna/attention.ipynb`. Files whose names hold that of the
   student and of the lesson, such as `anna_attention.ipynb`, may also stand in `handed_in` itself. Unpack what is packed.
3. **Grade.** `python -m crosscheck.lesson.grade handed_in` runs every notebook and writes `build/grades/grades.csv` and
   `grades.html`. It runs what strangers wrote: read `course/GRADING.md` first. Projects are graded by hand.

Exercises in the students' notebooks also have the metadata of nbgrader (`grade_id` such as `attention-1`, one point each), as
answers that are graded by hand there.
"""

DESCRIPTION = """\
Make an edition of the lessons, and a zip of it: build/student (no solutions, no outputs, checks without answers), or
build/teacher (with solutions, and notes on what wrong answers reveal). An older one is replaced. Without names, of every lesson
and project."""

EXAMPLES = """\
examples:
  python -m crosscheck.lesson.editions student
  python -m crosscheck.lesson.editions teacher attention sorting

exit status:
  0  the edition was written
  2  a name or an option is not known, or there are no lessons here"""


def main(argv=None):
    """Make one edition. Returns the exit status."""
    parser = Parser("crosscheck.lesson.editions", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("edition", choices=("student", "teacher"), help="for whom")
    parser.add_argument("names", nargs="*", metavar="NAME", help="lesson, guide or project (default: all)")
    options = parser.parse_args(argv)
    if not make.FOLDER.is_dir():
        return refuse(f"the lessons are not part of the installed package; use a clone. Missing: {make.FOLDER}")
    known = [*lessons_of(None), *projects.projects()]
    try:
        check_known(options.names, known, "lesson or project")
    except KeyError as error:
        return refuse(error.args[0])
    folder = BUILD / options.edition
    {"student": student, "teacher": teacher}[options.edition](folder, options.names or known)
    print(f"Written: {folder}, {folder}.zip")
    return 0


def student(folder, names):
    """Write the student's edition of these lessons and projects to `folder`, and a zip of it beside."""
    begin(folder)
    checks = folder / "exercises"
    checks.mkdir()
    (checks / "__init__.py").write_text(PACKAGE, encoding="utf-8")
    (folder / "README.md").write_text(STUDENT_README, encoding="utf-8")
    for name in lessons_of(names):
        notebook = read(name)
        if name in lessons_with_exercises():
            save(exercises_of(name), checks / f"{name}.json")
        else:
            notebook.cells = without_exercises(notebook.cells)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = FOLDED_SOLUTION.sub("", cell.source)
        unlink(notebook)
        mark(notebook, name)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    write_projects(folder, names)
    pack(folder)


def teacher(folder, names):
    """Write the teacher's edition of these lessons and projects to `folder`: with solutions and notes, and a zip."""
    begin(folder)
    notes = ["# Notes on the exercises", "What wrong answers reveal is what the check says about them."]
    for name in lessons_of(names):
        notebook = read(name)
        if name in lessons_with_exercises():
            notes += notes_on(name, notebook)
        unlink(notebook)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    write_projects(folder, names)
    for name in projects_of(names):
        write_project(projects.solved(name), folder / "projects" / f"{name}_solved.ipynb", names)
    (folder / "README.md").write_text(TEACHER_README, encoding="utf-8")
    (folder / "NOTES.md").write_text("\n\n".join(notes) + "\n", encoding="utf-8")
    pack(folder)


def pack(folder):
    """A zip of a folder, beside it."""
    shutil.make_archive(str(folder), "zip", folder.parent, folder.name)


def unlink(notebook):
    """Leave of links into the clone what they say, since an edition may be anywhere."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK_INTO_THE_CLONE.sub(r"\1", cell.source)


def mark(notebook, name):
    """Say in the metadata which lesson this is, and which cell is which exercise, as nbgrader and `grade` read it."""
    notebook.metadata = make.METADATA | {"crosscheck": {"lesson": name}}
    for cell in notebook.cells:
        if cell.cell_type == "code" and (stub := rules.STUB.fullmatch(cell.source)):
            what = {"grade_id": f"{name}-{stub['number']}", "cell_type": "code", "points": 1, "schema_version": 3}
            cell.metadata["nbgrader"] = what | {"grade": True, "solution": True, "locked": False, "task": False}


def lessons_of(names):
    """Those of `names` that are lessons, with the index; all lessons for None."""
    known = [path.stem for path in sorted(make.FOLDER.glob("*.py"))]
    return known if names is None else [name for name in names if name in known]


def projects_of(names):
    return [name for name in projects.projects() if name in names]


def write_projects(folder, names):
    """The statements of projects, and what their milestones ask."""
    for name in projects_of(names):
        milestones = folder / "projects" / "milestones"
        milestones.mkdir(parents=True, exist_ok=True)
        shutil.copy(projects.FOLDER / "milestones" / f"{name}.py", milestones)
        write_project(jupytext.read(projects.FOLDER / f"{name}.py"), folder / "projects" / f"{name}.ipynb", names)


def write_project(notebook, path, names):
    """Write a project whose links lead to the lessons of this edition, and to nothing outside of it."""

    def relinked(link):
        lesson = link[2].removeprefix("notebooks/").removesuffix(".ipynb")
        return f"[{link[1]}](../{lesson}.ipynb)" if lesson in lessons_of(names) else link[1]

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK_OF_A_PROJECT.sub(relinked, cell.source)
    nbformat.write(prepared(notebook), path)


def notes_on(name, notebook):
    """Paragraphs: for each exercise its minutes, its wrong answers with what the check says, and the question to discuss."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    graded = {int(number): (level, minutes) for number, level, minutes in MINUTES.findall(text)}
    paragraphs = [f"## {title(text)}"]
    for number, exercise in enumerate(exercises_of(name), 1):
        level, minutes = graded.get(number, ("", "?"))
        paragraphs.append(f"### {name}/{number} `{exercise.name}`: {level}, {minutes} minutes")
        lines = [f"- **{what}**: {verdict(exercise, mine, seed=0)}" for what, mine in exercise.wrong.items()]
        paragraphs.append("\n".join(lines))
        if exercise.right:
            paragraphs.append("Also right: " + "; ".join(exercise.right) + ".")
    return paragraphs + [f"To discuss:{question}" for question in DISCUSS.findall(text)]


def title(text):
    return text.lstrip("# ").split("\n")[0]


def begin(folder):
    """An empty folder in place of an older edition."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def read(name):
    """The lesson as its script has it, without outputs."""
    return prepared(jupytext.read(make.FOLDER / f"{name}.py"))


def prepared(notebook):
    """The same notebook each time: with numbers for random ids, no version of anybody's kernel, and the cell for Colab."""
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
    notebook.metadata = make.METADATA
    return colab.dressed(notebook)


def without_exercises(cells):
    """The cells of a lesson whose exercises cannot be checked without their answers: up to the exercises, and the summary."""
    start = next((i for i, cell in enumerate(cells) if "## Exercises" in cell.source.splitlines()), None)
    if start is None:
        return cells
    rest = "\n".join(cell.source for cell in cells[start:] if cell.cell_type == "markdown")
    summary = rest[rest.index("## Summary") :] if "## Summary" in rest else ""
    last = cells[start]
    last.source = last.source.split("## Exercises")[0] + summary
    return [*cells[:start], last]


if __name__ == "__main__":
    as_program(main)
