"""What grading reads, sends and writes: whose a notebook is, messages that may be hostile, tables and pages."""

import csv
import io
import json
import socket
import struct
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

from crosscheck.lesson import exercises, grade, make
from crosscheck.lesson.arguments import ReadOnce
from crosscheck.lesson.differences import difference
from crosscheck.lesson.grading import marking, report, submissions, warden
from crosscheck.lesson.grading.marking import Row
from crosscheck.lesson.grading.wire import MOST_KEYS, MOST_NUMBERS, MOST_TEXT, Channel, Forged, Opaque

ROOT = make.FOLDER.parent


@pytest.fixture
def line():
    """Both ends of a line."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with ours, theirs:
        yield Channel(ours), Channel(theirs)


def through(line, value):
    here, there = line
    sending = threading.Thread(target=lambda: there.send(value=value))
    sending.start()
    found = here.receive()["value"]
    sending.join()
    return found


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2.5,
        float("nan"),
        "é\u0301\ud800 \U0001f600",
        2**62,
        np.float32(1.5),
        np.int64(7),
        np.arange(6).reshape(2, 3),
        np.zeros((0, 3)),
        np.array([1.5, 2.0]).astype(ml_dtypes.bfloat16),
        np.array([1.5, -2.0], dtype=">f4"),
        np.array([True, False]),
        [1, (2.0, "text"), {"a": [np.ones(2)], 3: None, (1, 2): "b"}],
        ["un", "##able"],
        [],
    ],
    ids=repr,
)
def test_a_result_arrives_as_it_was(line, value):
    found = through(line, value)
    assert type(found) is type(value)
    np.testing.assert_equal(found, value)
    assert difference(found, value) is None


def test_what_is_no_array_arrives_as_lists_or_as_its_name(line):
    assert through(line, np.array(["un", "able"])) == ["un", "able"]
    assert through(line, np.array([None, 2], dtype=object)) == [None, 2]
    assert through(line, range(3)).tolist() == [0, 1, 2]
    for value in ({1, 2}, iter([1]), 1j, np.ones(2, complex), print, 2**5000, b"bytes"):
        found = through(line, value)
        assert isinstance(found, Opaque) and type(found).__name__ == type(value).__name__
        assert difference(found, [1, 2]) and difference(found, np.ones(2)) and difference(found, "text")


def test_arrays_can_be_written_to_and_iterators_are_read_once(line):
    array = through(line, np.ones(3))
    array += 1
    rows = through(line, ReadOnce("rows", (np.arange(3), np.ones((3, 2)))))
    assert [int(number) for number, _ in rows] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="rows can be read only once"):
        list(rows)


def test_what_is_too_large_is_not_sent(line):
    with pytest.raises(ValueError, match="too large"):
        line[1].send(value=np.zeros(MOST_NUMBERS // 8 + 1))
    with pytest.raises(ValueError, match="too large"):
        line[1].send(value="x" * (MOST_TEXT + 1))
    assert through(line, 1) == 1


def body(value, *arrays):
    return json.dumps({"body": {"pairs": [["value", value]]}, "arrays": arrays}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"body": ' + b'{"list": [' * 50_000,
        b"1" * 10_000,
        json.dumps({"body": {"list": []}, "arrays": []}).encode(),
        body([1, 2]),
        body({"array": 0}),
        body({"array": "0"}, ["float64", [0]]),
        body({"array": 0, "scalar": False}, ["float64", [-1]]),
        body({"array": 0, "scalar": False}, ["float64", [10**9, 10**9]]),
        body({"array": 0, "scalar": False}, ["float64", [True]]),
        body({"array": 0, "scalar": False}, ["float64", [0] * 40]),
        body({"array": 0, "scalar": False}, ["object", [0]]),
        body({"array": 0, "scalar": False}, ["O", [0]]),
        body({"array": 0, "scalar": False}, ["complex128", [0]]),
        body({"array": 0, "scalar": False}, ["S4", [0]]),
        body({"array": 0, "scalar": False}, [["a", "<f8"], [0]]),
        body({"array": 0, "scalar": False}, *[["uint8", [MOST_NUMBERS // 2]]] * 3),
        body({"pairs": [[{"list": []}, 1]]}),
        body({"pairs": [[1, 2, 3]]}),
        body({"pairs": [[number, 0] for number in range(MOST_KEYS + 1)]}),
        body({"kind": "Draw", "fields": {}}),
        body({"opaque": 1}),
        body({"list": 3}),
    ],
    ids=lambda text: str(text[:50]),
)
def test_a_forged_message_is_refused(line, text):
    here, there = line
    sending = threading.Thread(target=lambda: there.socket.sendall(struct.pack("!I", len(text)) + text))
    sending.start()
    with pytest.raises(Forged):
        here.receive()
    sending.join()


def test_a_message_that_is_announced_too_long_is_not_waited_for_and_an_end_is_told(line):
    here, there = line
    there.socket.sendall(struct.pack("!I", MOST_TEXT + 1))
    with pytest.raises(Forged, match="8000001 bytes"):
        here.receive()
    there.socket.sendall(struct.pack("!I", 5) + b"abc")
    there.socket.close()
    with pytest.raises(EOFError):
        here.receive()


def code(source, **metadata):
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [], "execution_count": None}


def notebook(*cells, **metadata):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


SOME = code("x = 1")


@pytest.mark.parametrize(
    ("name", "data", "lesson"),
    [
        ("a.ipynb", notebook(SOME, crosscheck={"lesson": "attention"}), "attention"),
        ("attention.ipynb", notebook(SOME, crosscheck={"lesson": "bert"}), "bert"),
        ("attention.ipynb", notebook(SOME, crosscheck={"lesson": ["bert"]}), "attention"),
        ("a.ipynb", notebook(code("x", nbgrader={"grade_id": "rezero_transformer-2"})), "rezero_transformer"),
        ("a.ipynb", notebook(code("_ = check( 'bert/1', f)")), "bert"),
        ("a.ipynb", notebook(code("_ = check('sorting/1', f)")), "sorting"),
        ("anna_attention (1).ipynb", notebook(SOME), "attention"),
        ("Masked_Softmax-anna.ipynb", notebook(SOME), "masked_softmax"),
        ("two_stream_attention.ipynb", notebook(SOME), "two_stream_attention"),
        ("a.ipynb", notebook({"cell_type": "markdown", "source": ["# Multi-head attention\n", "text"]}, SOME), "attention"),
        ("robert.ipynb", notebook(SOME), None),
        ("a.ipynb", notebook(SOME, crosscheck=3), None),
    ],
)
def test_a_lesson_is_told_by_metadata_checks_name_or_title(tmp_path, name, data, lesson):
    put(tmp_path / "anna" / name, data)
    (found,) = submissions.find(tmp_path)
    assert (found.student, found.lesson) == ("anna", lesson)
    assert (found.problem is None) == (lesson is not None)


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("anna/attention.ipynb", "anna"),
        ("Anna Müller_123_file/week 3/deep/attention.ipynb", "Anna Müller_123_file"),
        ("anna_attention.ipynb", "anna"),
        ("attention-anna.ipynb", "anna"),
        ("lee_12345_678_attention-1.ipynb", "lee_12345_678"),
        ("12345_attention (2).ipynb", "12345"),
        ("attention-12345.ipynb", "12345"),
        ("attention.ipynb", "handed in"),
    ],
)
def test_the_folder_or_the_file_names_the_student(tmp_path, path, student):
    put(tmp_path / "handed in" / path, notebook(SOME))
    assert [each.student for each in submissions.find(tmp_path / "handed in")] == [student]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("", "it is no JSON"),
        ('{"nbformat": 4, "cells": [', "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ('"text"', "it is JSON, but no notebook"),
        ("{}", "it is JSON, but no notebook"),
        ({"nbformat": 3, "worksheets": []}, "its nbformat must be 4, what JupyterLab saves. Received: 3"),
        ({"nbformat": 4, "cells": {}}, "it has no list of cells"),
        ({"nbformat": 4, "cells": [1]}, "it has no list of cells"),
        (notebook({"cell_type": "code", "source": [1]}), "the source of a cell is no text"),
        (notebook(), "it has no code"),
        (notebook(code("  \n")), "it has no code"),
        (notebook(code("x" * 2_000_001)), "its code has more than 2,000,000 characters"),
    ],
)
def test_what_is_no_notebook_is_a_row_with_its_reason(tmp_path, data, problem):
    put(tmp_path / "anna" / "attention.ipynb", data)
    (found,) = submissions.find(tmp_path)
    assert found.problem.startswith(problem)
    rows = grade.rows_without_running(found, [])
    assert [row.verdict for row in rows] == ["failed"] * 3 and problem in rows[0].message


def test_links_leftovers_and_folders_are_not_read(tmp_path):
    put(tmp_path / "solved.ipynb", notebook(SOME))
    folder = tmp_path / "in"
    put(folder / "anna" / ".ipynb_checkpoints" / "attention-checkpoint.ipynb", notebook(SOME))
    put(folder / "__MACOSX" / "anna" / "._attention.ipynb", "x")
    put(folder / "anna" / "._attention.ipynb", "x")
    (folder / "bob").mkdir()
    (folder / "bob" / "attention.ipynb").symlink_to(tmp_path / "solved.ipynb")
    (folder / "eve").symlink_to(tmp_path)
    (folder / "bob" / "bert.ipynb").mkdir()
    (found,) = submissions.find(folder)
    assert (found.student, found.problem) == ("bob", "it is a link, or no file")


def test_two_notebooks_of_a_lesson_and_projects_are_not_graded(tmp_path):
    put(tmp_path / "anna" / "attention.ipynb", notebook(SOME))
    put(tmp_path / "anna" / "again" / "attention (1).ipynb", notebook(SOME))
    put(tmp_path / "anna" / "sorting.ipynb", notebook(SOME))
    first, second, project = sorted(submissions.find(tmp_path), key=lambda each: each.lesson)
    rows = grade.rows_without_running(first, [second.path])
    assert [row.verdict for row in rows] == ["failed"] * 3
    assert "there are 2 notebooks of this lesson, keep one: attention (1).ipynb, attention.ipynb" in rows[0].message
    (row,) = grade.rows_without_running(project, [])
    assert row.verdict == "not graded" and "milestones check themselves" in row.message


def test_a_notebook_as_it_was_handed_out_is_not_run(tmp_path):
    data = json.loads((make.FOLDER / "attention.ipynb").read_text(encoding="utf-8"))
    put(tmp_path / "anna" / "attention.ipynb", data)
    (found,) = submissions.find(tmp_path)
    assert [row.verdict for row in grade.rows_without_running(found, [])] == ["not begun"] * 3
    data["cells"].append(SOME)
    put(tmp_path / "anna" / "attention.ipynb", data)
    (found,) = submissions.find(tmp_path)
    assert grade.rows_without_running(found, []) is None


def test_a_lesson_that_is_wanted_and_not_handed_in_is_missing(tmp_path):
    put(tmp_path / "anna" / "attention.ipynb", notebook(SOME))
    put(tmp_path / "bob" / "bert.ipynb", notebook(SOME))
    put(tmp_path / "bob" / "index.ipynb", notebook(SOME))
    put(tmp_path / "bob" / "what.ipynb", notebook(SOME))
    found = submissions.find(tmp_path)
    assert [each.path.name for each in grade.wanted(found, None)] == ["attention.ipynb", "bert.ipynb", "what.ipynb"]
    assert [each.path.name for each in grade.wanted(found, ["bert"])] == ["bert.ipynb", "what.ipynb"]
    rows = grade.absent(found, ["attention", "bert"])
    assert {(row.student, row.lesson, row.verdict) for row in rows} == {
        ("anna", "bert", "missing"),
        ("bob", "attention", "missing"),
    }


ROWS = [
    Row("=HYPERLINK(1)", "attention", "1 x", "wrong", 0.0, '+ a\n"quoted", <b>bold</b> & \ud800', 1.5),
    Row("<script>alert(1)</script>", "attention", "1 x", "right", 1.0, "", 0.25),
    Row("\"'><svg onload=alert(1)>", "bert", "1 x", "failed", 0.0, "it took more than 3 s", 3.0),
]


def test_the_table_is_read_back_and_holds_no_formula():
    text = report.as_csv(ROWS)
    assert text[0] == "\ufeff"
    text.encode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text[1:])))
    assert [row["student"] for row in rows] == ["'=HYPERLINK(1)", ROWS[1].student, ROWS[2].student]
    assert rows[0]["message"].startswith("'+ a") and tuple(rows[0]) == report.COLUMNS


def test_the_page_escapes_all_and_asks_for_nothing():
    page = report.as_page(ROWS, "3 <notebooks>")
    page.encode("utf-8")
    for raw in ("<script", "<svg", "<b>", "<notebooks>", "http:", "https:", "src="):
        assert raw not in page, raw
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "&quot;&#x27;&gt;&lt;svg onload=alert(1)&gt;" in page
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page and "width=device-width" in page
    assert page.count("<details>") == 3 and "it took more than 3 s" in page.split("Points")[0]


def test_a_message_is_one_line_without_what_steers_a_terminal():
    assert marking.plain("a\nb\x1b[31m\u202e\u200b\ud800c") == "a b [31m   c"
    assert len(marking.plain("x" * 1000)) == 401


def test_answers_are_not_among_what_a_notebook_can_import():
    assert exercises.FOLDER.name not in warden.PACKAGES
    assert all((warden.ROOT / name).is_dir() for name in warden.PACKAGES)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "FOLDER must be a folder with notebooks. Received: nowhere"),
        ([".", "--lesson", "atention"], "no lesson is called 'atention'. The nearest: attention"),
        ([".", "--jobs", "0"], "argument --jobs: expected 1, 2, 3, … Received: 0"),
        ([".", "--seconds", "-3"], "argument --seconds"),
        ([".", "--memory", "nan"], "argument --memory: expected a number above 0. Received: nan"),
        ([".", "--seed", "x"], "argument --seed"),
    ],
)
def test_bad_options_are_refused(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = grade.main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert complaint in capsys.readouterr().err


EVERY = """
import secrets, sys
from crosscheck.lesson.exercises import FOLDER, exercises_of, lessons_with_exercises
from crosscheck.lesson.grading.marking import Marking
from crosscheck.lesson.grading.warden import Limits, Student, empty_folder

class All(Marking):
    def mark(self, name):
        super().mark(name)
        said.append(self.found[int(name.split("/")[1])][0])

for lesson in lessons_with_exercises():
    said, tried = [], []
    cells = [(FOLDER / f"{lesson}.py").read_text(), "from crosscheck.lesson.exercises import check"]
    for number, exercise in enumerate(exercises_of(lesson)):
        for kind, place in [("answer", ""), *(("right", f"[{k!r}]") for k in exercise.right),
                            *(("wrong", f"[{k!r}]") for k in exercise.wrong)]:
            cells.append(f"check('{lesson}/{number + 1}', EXERCISES[{number}].{kind}{place})")
            tried.append((kind, place))
    with empty_folder() as folder, Student(Limits(), folder) as student:
        All(lesson, student, secrets.randbits(32)).run(cells, {})
    assert len(said) == len(tried) > 20, lesson
    for (kind, place), complaint in zip(tried, said):
        assert (kind == "wrong") == (complaint is not None), (lesson, kind, place, complaint)
    print(lesson)
"""


@pytest.mark.further
def test_every_answer_of_every_exercise_is_judged_as_check_does():
    ran = subprocess.run([sys.executable, "-c", EVERY], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == exercises.lessons_with_exercises()
