"""Notebooks that are right, wrong, hostile or broken are handed in, and one run of the command grades them all.

They are made from the student's edition, with the solutions of its lesson. Only the exercises are kept of its cells, so that no
notebook imports TensorFlow.
"""

import csv
import inspect
import json
import os
import re
import secrets
import subprocess
import sys
from html import unescape
from pathlib import Path

import jupytext
import nbformat
import pytest

from crosscheck.lesson import editions, install, make, rules
from crosscheck.lesson.exercises import exercises_of

ROOT = make.FOLDER.parent
LESSON = "masked_softmax"
NAMES = [exercise.name for exercise in exercises_of(LESSON)]
START = """\
import os, signal, sys, time
import numpy as np
from crosscheck.lesson.exercises import check
from reference.masked_softmax import masked_softmax
"""
MARK = f"{1000 + secrets.randbits(40) / 2**40:.12f}"
"""Seconds that processes of this run sleep, by which they are known."""

HOSTILE_NAME = "<img src=x onerror=alert(1)>"

SEND = """
import gc, json, socket, struct
(line,) = [each for each in gc.get_objects() if isinstance(each, socket.socket)]
text = {}
line.sendall(struct.pack("!I", len(text)) + text)
"""
"""Writes to the grader in place of the process that should."""

FORGED = '{"body": {"pairs": [["end", {"list": []}]]}, "arrays": []}'
LEFT_BEHIND = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "{MARK}"])
    os._exit(0)
"""

PATCH = """
import tracemalloc
from crosscheck.lesson import constraints, measuring
measuring.peak_memory = constraints.peak_memory = tracemalloc.reset_peak = lambda *given: 0
tracemalloc.get_traced_memory = lambda: (0, 0)
"""

HOSTILE = {
    "a check of one's own": "def check(*given):\n    print('right')\n    return True",
    "another check in the module": "from crosscheck.lesson import exercises\nexercises.check = check = lambda *given: True",
    "a message that it is over": SEND.format(f"b'{FORGED}'"),
    "a message that is none": SEND.format("b'hello'"),
    "a message that is too deep": SEND.format("b'[' * 1_000_000"),
    "leaves": "os._exit(0)",
    "endless": "signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    time.sleep(0.1)",
    "ends its grader": f"{LEFT_BEHIND}\nos.kill(os.getppid(), 9)",
    "many processes": f"import subprocess\nfor _ in range(80):\n    subprocess.Popen(['sleep', '{MARK}'])\ntime.sleep(30)",
    "shared memory": "import mmap\nblock = mmap.mmap(-1, 10**10)\nfor page in range(0, 10**10, 4096):\n    block[page] = 1",
    "a large file": "file = open('file', 'wb')\nfor _ in range(300):\n    file.write(bytes(10**6))",
    "crashes": "import ctypes\nctypes.string_at(0)",
}
"""{what the cell before the exercises does: its code}; the answers after it are wrong."""

BEGIN = f"""
{inspect.getsource(install.bring_course)}
try:
    bring_course("https://nowhere.invalid/course.git")
except BaseException:
    os._exit(1)
"""
"""What the first cell of a lesson does where the course has an address, from which nothing must be fetched here."""

HARMLESS = {
    "begins as a lesson": BEGIN,
    "too much memory": "blocks = [np.ones(10**8) for _ in range(1000)]",
    "a cell without end": "while True:\n    time.sleep(0.1)",
    "raises SystemExit": "raise SystemExit(0)",
    "asks": "name = input('Your name? ')",
    "prints without end": "for _ in range(1000):\n    print('x' * 1_000_000)",
    "deletes its folder": "import shutil\nshutil.rmtree(os.getcwd())",
    "leaves processes behind": LEFT_BEHIND,
    "locks its files": "os.mkdir('locked')\nopen('locked/file', 'w').close()\nos.chmod('locked', 0)",
    "deep folders": "for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')",
    "the answers": "from crosscheck.lesson.exercises import exercises_of\nanswers = exercises_of('masked_softmax')",
}
"""The same, with right answers after it."""

WRONG = {name: f"def {name}(*given, **named):\n    return 0.0" for name in NAMES}


def solutions():
    """{name of an exercise: a function that is right, as the lesson has it}."""
    cells = jupytext.read(make.FOLDER / f"{LESSON}.py").cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    stubs = [stub for cell in cells if (stub := rules.STUB.fullmatch(cell.source))]
    found = [block or unescape(line) for block, line in rules.SOLUTION.findall(text)]
    return {stub["name"]: rules.whole(each, stub["name"], stub["arguments"]) for stub, each in zip(stubs, found, strict=True)}


RIGHT = solutions()


def filled(notebook, answers):
    """The student's notebook, in which functions stand in place of stubs."""
    for cell in notebook.cells:
        if stub := rules.STUB.fullmatch(cell.source):
            cell.source = f"{answers[stub['name']]}\n\n\n_ = check({stub['chapter'] + '/' + stub['number']!r}, {stub['name']})"
    return notebook


def hand_in(folder, edition, student, answers, *before, after="", changed=None):
    """Write a notebook of the exercises alone, with cells before and after them."""
    notebook = filled(nbformat.read(edition / f"{LESSON}.ipynb", as_version=4), answers)
    exercises = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    extra = [nbformat.v4.new_code_cell(source, id=f"extra-{i}") for i, source in enumerate([START, *before, after])]
    notebook.cells = [*extra[:-1], *exercises, extra[-1]]
    for cell in notebook.cells:
        cell.outputs = [nbformat.v4.new_output("stream", text="right\n")]
    data = json.loads(nbformat.writes(notebook))
    (changed or (lambda data: None))(data)
    (folder / student).mkdir(parents=True)
    (folder / student / f"{LESSON}.ipynb").write_text(json.dumps(data))


def without_traces(data):
    """Take the checks, and all that names the lesson, out of a notebook."""
    data["metadata"].pop("crosscheck")
    for cell in data["cells"]:
        cell["metadata"] = {}
        cell["source"] = re.sub(r"_ = check.*", "", "".join(cell["source"]))


def grade(folder, output, *options, temporary=None):
    """Run the command; it must say what it did, and nothing of errors."""
    command = [sys.executable, "-m", "crosscheck.lesson.grade", str(folder), "--output", str(output), *map(str, options)]
    temporary = temporary or folder.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stderr == "", ran.stderr
    with (output / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    by_student = {}
    for row in rows:
        by_student.setdefault(row["student"], []).append(row)
    return ran, by_student, (output / "grades.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edition") / "student"
    editions.student(folder, [LESSON])
    return folder


@pytest.fixture(scope="module")
def graded(edition, tmp_path_factory):
    """What came out for every notebook: (the run, {student: rows}, the page)."""
    base = tmp_path_factory.mktemp("handed in")  # a name with a space
    folder = base / "handed in"
    hand_in(folder, edition, "right", RIGHT)
    hand_in(folder, edition, "wrong", WRONG)
    hand_in(folder, edition, "forged outputs", WRONG, "def check(*given):\n    print('right')")
    hand_in(folder, edition, "no check", RIGHT, changed=without_traces)
    hand_in(folder, edition, "another name", RIGHT, after=f"del {NAMES[0]}\n", changed=lambda data: rename(data, NAMES[0]))
    hand_in(folder, edition, HOSTILE_NAME, WRONG | {NAMES[0]: raises("<script>alert(1)</script>\\x1b[31m\\ud800")})
    hand_in(folder, edition, "=1+1", {name: f"def {name}(*given, **named):\n    return None" for name in NAMES})
    hand_in(folder, edition, "cheats while it is measured", RIGHT | {"log_total": cheat("log_total")})
    hand_in(
        folder,
        edition,
        "an answer without end",
        RIGHT | {NAMES[0]: f"def {NAMES[0]}(x):\n    while True:\n        time.sleep(0.1)"},
    )
    hand_in(folder, edition, "the last check counts", RIGHT, after=f"check('{LESSON}/1', np.exp)\ncheck('{LESSON}/9', np.exp)")
    keeping = "def log_total(pieces):\n    return np.logaddexp.reduce(np.concatenate([*pieces, np.array([-np.inf])]))"
    hand_in(folder, edition, "patches a measure", RIGHT | {"log_total": keeping}, PATCH)
    for what, code in HOSTILE.items():
        hand_in(folder, edition, what, WRONG, code)
    for what, code in HARMLESS.items():
        hand_in(folder, edition, what, RIGHT, code)
    return grade(folder, base / "out", "--jobs", 2, "--seconds", 40, "--memory", 0.5, "--seed", 0)


def raises(message):
    return f"def {NAMES[0]}(x):\n    raise ValueError('{message}')"


def cheat(name):
    """A function that is right, and does nothing while memory is measured."""
    honest = RIGHT[name].replace(f"def {name}", "def honest")
    return f"import tracemalloc\n{honest}\ndef {name}(pieces):\n    return 0.0 if tracemalloc.is_tracing() else honest(pieces)"


def rename(data, name):
    """Call a function differently in its cell, and hand it to no check."""
    for cell in data["cells"]:
        source = "".join(cell["source"])
        if f"def {name}" in source:
            cell["source"] = source.split("\n\n\n_ =")[0].replace(f"def {name}", "def my_own")
        if source.startswith("del "):
            cell["source"] = ""


def verdicts(graded, student):
    return [row["verdict"] for row in graded[1][student]]


def reasons(graded, student):
    (reason,) = {row["message"] for row in graded[1][student]}
    return reason


def test_right_answers_have_a_point_each(graded):
    assert verdicts(graded, "right") == ["right"] * 3
    assert [row["points"] for row in graded[1]["right"]] == ["1.0"] * 3
    assert [row["exercise"] for row in graded[1]["right"]] == [f"{number} {name}" for number, name in enumerate(NAMES, 1)]
    assert {row["lesson"] for row in graded[1]["right"]} == {LESSON}


@pytest.mark.parametrize("student", ["wrong", "forged outputs"])
def test_wrong_answers_have_none_whatever_their_outputs_say(graded, student):
    assert verdicts(graded, student) == ["wrong"] * 3
    assert all(row["message"].startswith("for ") and row["points"] == "0.0" for row in graded[1][student])


@pytest.mark.parametrize("student", ["no check", "another name"])
def test_answers_are_found_by_name_or_by_the_cell_that_was_made_for_them(graded, student):
    assert verdicts(graded, student) == ["right"] * 3


def test_what_is_not_begun_is_told_from_what_is_wrong(graded):
    assert verdicts(graded, "'=1+1") == ["not begun"] * 3


def test_the_last_check_of_an_exercise_counts(graded):
    assert verdicts(graded, "the last check counts") == ["wrong", "right", "right"]


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_notebook_gets_no_point_and_keeps_nobody_else_from_one(graded, what):
    assert {row["points"] for row in graded[1][what]} == {"0.0"}, graded[1][what]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("a message that is none", "it sent something that is no answer: JSONDecodeError in a message, in code cell 2"),
        ("a message that is too deep", "it sent something that is no answer: RecursionError in a message, in code cell 2"),
        ("leaves", "its process ended itself, with exit status 0, in code cell 2"),
        ("endless", "it took more than 40 s, in code cell 2"),
        (
            "ends its grader",
            "the process that grades it was ended by SIGKILL, because of the notebook or of an error: no message",
        ),
        ("many processes", "it started more than 64 processes, in code cell 2"),
        ("shared memory", "it needed more than 0.5 GB of memory, in code cell 2"),
        ("crashes", "its process was ended by SIGSEGV, in code cell 2"),
    ],
)
def test_a_failed_row_says_why(graded, what, reason):
    assert verdicts(graded, what) == ["failed"] * 3
    assert reasons(graded, what) == reason


@pytest.mark.parametrize("what", HARMLESS)
def test_what_goes_wrong_in_a_cell_does_not_keep_right_answers_from_their_points(graded, what):
    assert verdicts(graded, what) == ["right"] * 3, graded[1][what]


def test_an_answer_without_end_is_stopped_and_the_others_are_graded(graded):
    assert verdicts(graded, "an answer without end") == ["wrong", "right", "right"]
    assert "it stopped with TimeLimit: more than 10 s" in graded[1]["an answer without end"][0]["message"]


def test_an_answer_cannot_do_less_while_it_is_measured(graded):
    assert verdicts(graded, "cheats while it is measured") == ["right", "right", "wrong"]
    assert "while it is measured: it should be" in graded[1]["cheats while it is measured"][2]["message"]


def test_what_is_measured_is_not_what_a_notebook_has_patched(graded):
    assert verdicts(graded, "patches a measure") == ["right", "right", "wrong"]
    assert "no room for all pieces at once" in graded[1]["patches a measure"][2]["message"]


def test_whatever_a_student_wrote_is_escaped(graded):
    _, by_student, page = graded
    assert "<script" not in page and "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page + str(by_student) and "\ud800" not in page
    assert "=1+1" not in by_student and "'=1+1" in by_student


def test_nothing_is_left_of_a_notebook(graded):
    """Neither a process nor a file; what ended its grader has left both to the command."""
    assert MARK not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    base = Path(graded[0].args[3]).parent
    assert list((base / "tmp").iterdir()) == []
    assert {path.name for path in (base / "out").iterdir()} == {"grades.csv", "grades.html"}


def test_the_status_says_that_some_could_not_be_graded(graded):
    assert graded[0].returncode == 1
    assert "notebooks" in graded[0].stdout and "seed 0 repeats the inputs" in graded[0].stdout


def root_can_lend_a_user():
    if os.geteuid():
        return False
    try:
        return subprocess.run([sys.executable, "-c", "import numpy"], user=23000, group=23000, extra_groups=[]).returncode == 0
    except PermissionError:
        return False


@pytest.mark.skipif(not root_can_lend_a_user(), reason="needs root, and a Python that other users can run, as in a container")
def test_a_user_of_its_own_can_neither_end_its_grader_nor_read_the_answers(edition, tmp_path):
    folder, secret = tmp_path / "in", tmp_path / "secret"
    secret.mkdir(mode=0o700)
    hand_in(folder, edition, "ends its grader", RIGHT, "os.kill(os.getppid(), 9)")
    hand_in(folder, edition, "ends all", RIGHT, "if os.fork() == 0:\n    os.kill(-1, 9)\ntime.sleep(1)")
    hand_in(folder, edition, "reads", RIGHT, f"os.listdir({str(secret)!r})\nos._exit(0)")
    options = ("--seconds", 60, "--uid", 23000)
    _, by_student, _ = grade(folder, tmp_path / "out", *options, temporary=Path("/tmp"))  # pytest's own is for root alone
    assert {student: rows[0]["verdict"] for student, rows in by_student.items()} == {
        "ends its grader": "right",
        "ends all": "failed",
        "reads": "right",
    }


@pytest.mark.further
def test_a_whole_lesson_is_graded(edition, tmp_path):
    folder = tmp_path / "in" / "anna"
    folder.mkdir(parents=True)
    nbformat.write(filled(nbformat.read(edition / f"{LESSON}.ipynb", as_version=4), RIGHT), folder / "mine.ipynb")
    ran, by_student, _ = grade(tmp_path / "in", tmp_path / "out")
    assert [row["verdict"] for row in by_student["anna"]] == ["right"] * 3
    assert ran.returncode == 0
