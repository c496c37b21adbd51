"""Finds students' notebooks in a folder, and reads whose they are, of which lesson, and their code."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from crosscheck.lesson import exercises
from crosscheck.lesson.exercises import exercises_of, lessons_with_exercises

LESSONS = exercises.FOLDER.parent / "notebooks"
PROJECTS = exercises.FOLDER.parent / "course" / "projects"
MOST_BYTES = 50_000_000
"""Bytes of a notebook: with pictures, those of the course have one or two million."""
MOST_CODE = 2_000_000
IGNORED = re.compile(r"^(\.|__MACOSX$)")
"""Files and folders that a program left: copies of JupyterLab, forks of macOS."""
CHECK = re.compile(r"""\bcheck\(\s*["'](\w+)/\d+["']""")
GRADE_ID = re.compile(r"([a-z0-9_]+)-(\d+)")
SEPARATORS = " _-.()[]"
COPY = r"(?: ?\(\d+\)|-\d{1,2}(?!\d))?"
"""What a browser, or Canvas, adds to the name of a second file."""


class Unreadable(Exception):
    """A file is no notebook that can be graded. The message says why."""


@dataclass
class Submission:
    """Attributes:

    path: Where the notebook is.
    student: Whose it is.
    lesson: Name of its lesson or project; None if that is not known.
    cells: The code of each of its code cells.
    made_for: {number of an exercise: number of the code cell that is marked as its own, from 1}.
    problem: Why it cannot be graded; None if it can.
    """

    path: Path
    student: str
    lesson: str | None = None
    cells: list[str] = field(default_factory=list)
    made_for: dict[int, int] = field(default_factory=dict)
    problem: str | None = None


def find(folder):
    """Every notebook under a folder, read. Nothing that is a link is followed."""
    paths = sorted(path for path in walk(folder) if path.suffix.lower() == ".ipynb")
    return [read(path, folder) for path in paths]


def walk(folder):
    for path in sorted(folder.iterdir()):
        if not IGNORED.match(path.name):
            if path.is_dir() and not path.is_symlink():
                yield from walk(path)
            else:
                yield path


def read(path, folder):
    """One notebook as a `Submission`, with a `problem` if there is one."""
    lesson = in_name(path.stem)
    found = Submission(path, student_of(path, folder, lesson), lesson)
    try:
        data = as_notebook(path)
        cells = [cell for cell in data["cells"] if cell["cell_type"] == "code"]
        found.cells = [source_of(cell) for cell in cells]
        for number, cell in enumerate(cells, 1):
            if mark := GRADE_ID.fullmatch(str(metadata_of(cell, "nbgrader").get("grade_id", ""))):
                found.made_for[int(mark[2])] = number
        found.lesson = lesson_of(data, found.cells) or lesson
        if sum(map(len, found.cells)) > MOST_CODE:
            raise Unreadable(f"its code has more than {MOST_CODE:,} characters")
        if found.lesson is None:
            raise Unreadable("it cannot be told of which lesson this is, from its metadata, checks, file name or title")
        if not any(cell.strip() for cell in found.cells):
            raise Unreadable("it has no code")
    except Unreadable as error:
        found.problem = str(error)
    return found


def as_notebook(path):
    """The JSON of a notebook of format 4, of which only what is read here has been looked at.

    Raises:
        Unreadable: if it is none.
    """
    if path.is_symlink() or not path.is_file():
        raise Unreadable("it is a link, or no file")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise Unreadable(f"it has {size / 1e6:.0f} MB, and more than {MOST_BYTES / 1e6:.0f} are not read: clear its outputs")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {str(error)[:100]}") from None
    if not isinstance(data, dict) or type(data.get("nbformat")) is not int:
        raise Unreadable("it is JSON, but no notebook")
    if data["nbformat"] != 4:
        raise Unreadable(f"its nbformat must be 4, what JupyterLab saves. Received: {str(data['nbformat'])[:20]}")
    cells = data.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
        raise Unreadable("it has no list of cells")
    return data


def source_of(cell):
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        raise Unreadable("the source of a cell is no text")
    return "".join(lines)


def metadata_of(thing, name):
    """The metadata that a notebook or a cell has under a name; nothing if there is none."""
    metadata = thing.get("metadata")
    found = metadata.get(name) if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def lesson_of(data, cells):
    """The lesson that the metadata of a notebook name, or the checks in its code, or its title; None if none does."""
    named = metadata_of(data, "crosscheck").get("lesson")
    marks = (str(metadata_of(cell, "nbgrader").get("grade_id", "")) for cell in data["cells"])
    marked = [mark[1] for mark in map(GRADE_ID.fullmatch, marks) if mark]
    checked = [name for cell in cells for name in CHECK.findall(cell)]
    heads = [source_of(cell).strip() for cell in data["cells"] if cell["cell_type"] == "markdown"][:1]
    titled = [titles().get(head.splitlines()[0]) for head in heads if head]
    known = {*lessons_with_exercises(), *projects(), "index"}
    return next((name for name in [named, *marked, *checked, *titled] if isinstance(name, str) and name in known), None)


def in_name(stem):
    """The longest name of a lesson or project that stands in the name of a file; None if there is none."""
    names = [*lessons_with_exercises(), *projects(), "index"]
    found = [name for name in names if re.search(rf"(?<![a-z]){name}(?![a-z])", stem.lower())]
    return max(found, key=len, default=None)


def student_of(path, folder, lesson):
    """The first folder below `folder`; of a file in it, what its name has beside the lesson's, or else the folder's name."""
    parts = path.relative_to(folder).parts
    if len(parts) > 1:
        return parts[0]
    rest = re.sub(lesson + COPY, "", path.stem, flags=re.IGNORECASE) if lesson else path.stem
    return rest.strip(SEPARATORS) or folder.resolve().name


@cache
def titles():
    """{first line of a lesson or project: its name}."""
    paths = [path for folder in (LESSONS, PROJECTS) for path in folder.glob("*.py")]
    return {line.removeprefix("# "): path.stem for path in paths if (line := first_heading(path))}


def first_heading(path):
    return next((line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# # ")), None)


@cache
def projects():
    """The name of every project, without the imports that the chapters need."""
    return sorted(path.stem for path in PROJECTS.glob("*.py"))


@cache
def handed_out(lesson):
    """The code cells of a lesson as students get it."""
    cells = as_notebook(LESSONS / f"{lesson}.ipynb")["cells"]
    return [source_of(cell) for cell in cells if cell["cell_type"] == "code"]


def is_untouched(submission):
    """Whether its code is that of the hand-out, so that nothing has to be run."""
    return [cell.strip() for cell in submission.cells] == [cell.strip() for cell in handed_out(submission.lesson)]


def exercise_names(lesson):
    return [f"{number} {exercise.name}" for number, exercise in enumerate(exercises_of(lesson), 1)]
