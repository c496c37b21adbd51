"""`python -m crosscheck.lesson.grade FOLDER`: run the notebooks that students handed in, and say which answers are right."""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentTypeError
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crosscheck.lesson.exercises import FOLDER, lessons_with_exercises
from crosscheck.report.command import Parser, as_program, check_known, positive, refuse

try:
    import resource  # noqa: F401 (Windows has no limits of this kind)

    from crosscheck.lesson.grading import processes, submissions, warden
    from crosscheck.lesson.grading.marking import Row, plain
    from crosscheck.lesson.grading.report import as_csv, as_page
except ModuleNotFoundError as error:
    MISSING = error.name
else:
    MISSING = None

GRACE = 60
"""Seconds that a notebook's grader may take beside those of the notebook, before it is ended too."""

DESCRIPTION = """\
Grade the exercises in students' notebooks. Every .ipynb under FOLDER is one: FOLDER/STUDENT/NAME.ipynb, or files whose names hold
that of the student and of the lesson, such as anna_attention.ipynb. The lesson is told by metadata, checks, file name or title.

The code is run, never an output believed: cells run from the top in a process of their own, with limits, and each answer is
called with inputs that it has not seen and compared here. A notebook that is endless, hostile or broken is a row with a reason.

These are limits, not a sandbox: course/GRADING.md says what they leave open, and how to run the command in a container."""

EXAMPLES = """\
examples:
  python -m crosscheck.lesson.grade handed_in
  python -m crosscheck.lesson.grade handed_in --lesson attention --lesson masked_softmax --jobs 4
  python -m crosscheck.lesson.grade handed_in --seconds 600 --memory 6 --output build/week3

exit status:
  0  every notebook was graded, whatever its points are
  1  at least one could not be: its rows say "failed"
  2  a folder, a lesson or an option is not known, or the limits leave no room for Python"""


def parse(argv):
    parser = Parser("crosscheck.lesson.grade", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the students' notebooks are")
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=FOLDER.parent / "build" / "grades")
    parser.add_argument("--lesson", metavar="NAME", action="append", help="grade this lesson, and say who has none (repeatable)")
    parser.add_argument(
        "--jobs", metavar="N", type=positive, default=max(1, (os.cpu_count() or 1) // 2), help="notebooks at a time"
    )
    parser.add_argument("--seconds", metavar="S", type=positive_number, default=300, help="for a notebook (default: 300)")
    parser.add_argument("--memory", metavar="GB", type=positive_number, default=4, help="for a notebook (default: 4)")
    parser.add_argument("--seed", metavar="N", type=int, help="of the inputs, to repeat a grading (default: drawn, and printed)")
    parser.add_argument("--uid", metavar="N", type=positive, help="run notebook i as user N + i; root alone can, in a container")
    return parser.parse_args(argv)


def positive_number(given):
    if not re.fullmatch(r"\d*\.?\d+", given) or not float(given):
        raise ArgumentTypeError(f"expected a number above 0. Received: {given}")
    return float(given)


def main(argv=None):
    """Grade a folder. Returns the exit status."""
    options = parse(argv)
    if why := reason_to_refuse(options):
        return refuse(why)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return refuse(f"--output must be a folder that can be made. Received: {options.output} ({error.strerror})")
    seed = secrets.randbits(32) if options.seed is None else options.seed
    if why := trial(limits_of(options, 0)):
        hint = "" if options.uid is None else f". Can user {options.uid} run {sys.executable}, and enter {tempfile.gettempdir()}?"
        return refuse(f"no notebook can be run with these limits: {why}{hint}")
    processes.guard()
    start = time.perf_counter()
    found = wanted(submissions.find(options.folder), options.lesson)
    rows = []
    for number, own in enumerate(graded(found, seed, options), 1):
        rows += own
        print(f"{number}/{len(found)} {line_on(own)}", flush=True)
        write(rows, options.output, f"{number} of {len(found)} notebooks are graded.")
    processes.NURSERY.end_strays()
    rows = sorted(rows + absent(found, options.lesson), key=lambda row: (row.student, row.lesson, row.exercise))
    points = sum(row.points for row in rows)
    summary = f"{len(found)} notebooks, {points:g} points. {time.perf_counter() - start:.0f} s; seed {seed} repeats the inputs."
    write(rows, options.output, summary)
    print(summary)
    print(f"Written: {options.output / 'grades.csv'}, {options.output / 'grades.html'}")
    return int(any(row.verdict == "failed" for row in rows))


def reason_to_refuse(options):
    """Why nothing can be graded; None if it can."""
    if MISSING:
        return f"this needs the module {MISSING}. On Windows, run it in a container: course/GRADING.md says how."
    if not FOLDER.is_dir() or not lessons_with_exercises():
        return f"the exercises are not part of the installed package; grade in a clone. Missing: {FOLDER}"
    if not options.folder.is_dir():
        return f"FOLDER must be a folder with notebooks. Received: {options.folder}"
    if options.uid is not None and os.geteuid():
        return "--uid needs root, which you should be in a container only"
    try:
        check_known(options.lesson or [], lessons_with_exercises(), "lesson")
    except KeyError as error:
        return error.args[0]
    return None


def limits_of(options, number):
    uid = None if options.uid is None else options.uid + number
    return {"seconds": options.seconds, "memory": int(options.memory * 1e9), "uid": uid}


def trial(limits):
    """Why a notebook with nothing wrong in it cannot be run; None if it can."""
    task = {"name": "", "lesson": "masked_softmax", "cells": ["import numpy"], "made_for": {}, "seed": 0, "limits": limits}
    rows = run(task)
    return next((row.message for row in rows if row.verdict == "failed"), None)


def wanted(found, lessons):
    """The notebooks of these lessons, and those whose lesson is unknown; all but the index for None."""
    return [each for each in found if (each.lesson in lessons if lessons and each.lesson else each.lesson != "index")]


def graded(found, seed, options):
    """The rows of each notebook, in order."""
    twice = {}
    for each in found:
        twice.setdefault((each.student, each.lesson), []).append(each.path)

    def rows_of(number, each):
        others = [path for path in twice[each.student, each.lesson] if each.lesson and path != each.path]
        return rows_without_running(each, others) or run(task_of(each, seed, limits_of(options, number)))

    pool = ThreadPoolExecutor(options.jobs)
    try:
        yield from pool.map(rows_of, range(len(found)), found)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, begin with no further one


def rows_without_running(each, others):
    """The rows of what needs no run, or must not be run; None for a notebook that has to be."""
    if each.problem:
        return refused(each, "failed", each.problem)
    if each.lesson in submissions.projects():
        return refused(
            each, "not graded", "projects are not graded by this command: run the notebook, its milestones check themselves"
        )
    if others:
        names = ", ".join(sorted(path.name for path in (each.path, *others)))
        return refused(each, "failed", f"there are {len(others) + 1} notebooks of this lesson, keep one: {names}")
    if submissions.is_untouched(each):
        return refused(each, "not begun", "its code is that of the hand-out")
    return None


def refused(each, verdict, why):
    """The same row for each exercise of a notebook, or one row if it has no lesson."""
    names = submissions.exercise_names(each.lesson) if each.lesson in lessons_with_exercises() else [""]
    message = plain(f"{each.path.name}: {why}")
    return [Row(plain(each.student), each.lesson or "", name, verdict, 0.0, message) for name in names]


def task_of(each, seed, limits):
    parts = {"name": plain(each.student), "lesson": each.lesson, "cells": each.cells, "made_for": each.made_for}
    return parts | {"seed": seed, "limits": limits}


def run(task):
    """The rows of one notebook, marked by a process of its own, which is ended if it takes too long."""
    most = task["limits"]["seconds"] + GRACE
    try:
        with warden.empty_folder() as folder:
            text = json.dumps(task | {"folder": str(folder)})
            status, output, errors = processes.NURSERY.run("crosscheck.lesson.grading.marking", text, most)
        if status == 0:
            return [Row(**row) for row in json.loads(output)]
        last = (errors.strip().splitlines() or ["no message"])[-1]
        why = f"the process that grades it {warden.ended(status)}, because of the notebook or of an error: {last}"
    except subprocess.TimeoutExpired:
        why = f"the process that grades it was ended, because it took more than {most:g} s"
    except Exception as error:  # whatever it is, other notebooks are still graded
        why = f"the grader stopped with {type(error).__name__}: {error}"
    names = submissions.exercise_names(task["lesson"])
    return [Row(task["name"], task["lesson"], name, "failed", 0.0, plain(why)) for name in names]


def absent(found, lessons):
    """A row for each exercise of a lesson that a student did not hand in."""
    students = sorted({each.student for each in found})
    have = {(each.student, each.lesson) for each in found}
    return [
        Row(plain(student), lesson, name, "missing", 0.0, "there is no notebook of this lesson")
        for student in students
        for lesson in lessons or []
        if (student, lesson) not in have
        for name in submissions.exercise_names(lesson)
    ]


def line_on(rows):
    """What came out for one notebook, on a line."""
    said = ", ".join(row.verdict for row in rows)
    return f"{rows[0].student}, {rows[0].lesson or 'unknown lesson'}: {said}"


def write(rows, folder, summary):
    """Write both files, each in one step, so that nobody sees half of one."""
    for name, contents in {"grades.csv": as_csv(rows), "grades.html": as_page(rows, summary)}.items():
        part = folder / f"{name}.part"
        part.write_text(contents, encoding="utf-8", newline="")
        part.replace(folder / name)


if __name__ == "__main__":
    as_program(main)
