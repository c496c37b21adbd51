"""Marks one notebook: asks the student's process for results, and decides here, with `exercises.verdict`, what they are worth.

`python -m crosscheck.lesson.grading.marking` reads what to mark as JSON and writes rows as JSON; the grader starts it for each
notebook, so that nothing that goes wrong with one reaches another.
"""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from crosscheck.lesson.arguments import bound, prepared
from crosscheck.lesson.constraints import SinglePass
from crosscheck.lesson.differences import difference
from crosscheck.lesson.exercises import exercises_of, verdict
from crosscheck.lesson.grading.warden import Limits, Lost, Student
from crosscheck.lesson.grading.wire import Forged
from crosscheck.lesson.stored import encode

SHARE = 4
"""A cell or a call may take one part in so many of the time for a notebook, so that what comes after it is graded too."""


@dataclass
class Row:
    """One line of the grades. `verdict` is one of `VERDICTS`; `points` of at most `most`; `exercise` is its number and name."""

    student: str
    lesson: str
    exercise: str
    verdict: str
    points: float
    message: str
    seconds: float = 0.0


VERDICTS = {
    "right": "the answer is right",
    "wrong": "the answer is wrong; the message says for which input",
    "not begun": "the function returns nothing, as in the hand-out",
    "missing": "there is no such function in the notebook, or no notebook",
    "failed": "the notebook could not be graded: it was ended, or is no notebook",
    "not graded": "the command does not grade this; the message says why",
}


class Marking:
    """The exercises of one lesson, and what one student's process says to them."""

    def __init__(self, lesson, student, seed):
        self.exercises = dict(enumerate(exercises_of(lesson), 1))
        self.lesson, self.student, self.seed = lesson, student, seed
        self.found, self.cell, self.failed_cells = {}, 0, []

    def run(self, cells, made_for):
        """{number: (complaint or None, seconds)} for what could be asked; `made_for` are the cells of exercises that have a mark.

        Raises:
            Lost: if the process is lost before the end. What was found until then is in `found`.
        """
        limits = self.student.limits
        self.send(cells=cells, seconds=limits.seconds, cell_seconds=limits.seconds / SHARE, memory=limits.memory)
        while "end" not in (message := self.receive()):
            if "check" in message:
                self.mark(message["check"])
            else:
                self.cell = self.part(message, "cell", int)
        for each in self.part(message, "end", list):
            number, kind, text = each if isinstance(each, tuple) and len(each) == 3 else (0, "", "")
            self.failed_cells.append((number, f"{kind}: {text}"))
        self.cell = 0
        for number, exercise in self.exercises.items():
            if number not in self.found:
                self.send(find={"name": exercise.name, "cell": made_for.get(number)})
                if "check" in self.receive():
                    self.mark(f"{self.lesson}/{number}")
        self.send(find=None)

    def mark(self, name):
        """Answer a check: ask for results as long as they are right. The last check of an exercise is the one that counts."""
        lesson, _, number = str(name).partition("/")
        number = int(number) if number.isdecimal() and len(number) < 3 else 0
        if lesson == self.lesson and number in self.exercises:
            start = time.perf_counter()
            self.found.pop(number, None)
            exercise = self.exercises[number]
            watched = tuple(c if isinstance(c, SinglePass) else Remote(c, exercise, self) for c in exercise.constraints)
            complaint = verdict(dataclasses.replace(exercise, constraints=watched), self.call, self.seed)
            self.found[number] = (complaint, time.perf_counter() - start)
        self.send(done=True)

    def call(self, **arguments):
        """What the student's function returns for these arguments; what it stopped with there stops this one too."""
        return self.part(self.ask(arguments=arguments), "result")

    def ask(self, **request):
        self.send(**request)
        message = self.receive()
        if "error" in message:
            kind, text = (*self.part(message, "error", tuple), "", "")[:2]
            raise named_error(str(kind))(str(text))
        return message

    def part(self, message, name, kind=object):
        """What a message has under a name, which must be of this kind."""
        if name not in message or not isinstance(message[name], kind):
            self.lose(f"it sent something that is no answer: no {name}")
        return message[name]

    def send(self, **message):
        try:
            self.student.channel.send(**message)
        except OSError:
            self.lose()

    def receive(self):
        try:
            return self.student.channel.receive()
        except Forged as error:
            self.lose(f"it sent something that is no answer: {error}")
        except (OSError, EOFError):
            self.lose()

    def lose(self, why=None):
        place = f", in code cell {self.cell}" if self.cell else ""
        raise Lost((why or self.student.reason()) + place) from None


@dataclass(frozen=True)
class Remote:
    """A constraint that is measured in the student's process. What a function returns there must be right, too."""

    constraint: object
    exercise: object
    marking: Marking

    def verdict(self, mine, once):
        arrays = {}
        measured = self.marking.ask(constraint=encode(self.constraint, arrays), arrays=arrays, once=once)
        if complaint := self.marking.part(measured, "complaint"):
            return str(complaint)
        results = self.marking.part(measured, "results", list)
        fields = ("arguments", "small", "large")
        cases = [getattr(self.constraint, field) for field in fields if hasattr(self.constraint, field)]
        expected = [bound(self.exercise.answer, prepared(case, once))() for case in cases]
        for found in results:
            complaints = [difference(found, each) for each in expected]
            if all(complaints):
                return f"while it is measured: {complaints[-1]}"
        return None if results else "it was not called when it should have been measured"


def named_error(name):
    """A class of exceptions with the name of the student's error."""
    return type(name if name.isidentifier() and len(name) <= 60 else "Error", (Exception,), {})


def rows_of(name, lesson, cells, made_for, seed, limits, folder):
    """A row for each exercise of a notebook's lesson. It runs in this folder, which is empty."""
    start = time.perf_counter()
    lost, found, failed_cells = None, {}, []
    try:
        with Student(limits, Path(folder)) as student:
            marking = Marking(lesson, student, seed)
            try:
                marking.run(cells, made_for)
            finally:
                found, failed_cells = marking.found, marking.failed_cells
    except Lost as error:
        lost = str(error)
    spent = time.perf_counter() - start
    return [
        row_of(name, lesson, number, exercise, found.get(number), lost, failed_cells, spent)
        for number, exercise in enumerate(exercises_of(lesson), 1)
    ]


def plain(text):
    """What a student may have written, on one line that is not too long, without what steers a terminal or a spreadsheet."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[:400])
    return shown if len(text) <= 400 else shown + "…"


def row_of(name, lesson, number, exercise, found, lost, failed_cells, spent):
    """One exercise: its complaint and seconds, or else why the notebook was lost, or else that it has no such function."""
    title = f"{number} {exercise.name}"
    if found:
        complaint, seconds = found
        kind = "right" if complaint is None else "not begun" if complaint.startswith("not yet: ") else "wrong"
        return Row(name, lesson, title, kind, float(complaint is None), plain(complaint or ""), round(seconds, 2))
    if lost:
        return Row(name, lesson, title, "failed", 0.0, plain(lost), round(spent, 2))
    why = "".join(f"; code cell {cell} stopped with {text}" for cell, text in failed_cells[:1])
    return Row(name, lesson, title, "missing", 0.0, plain(f"there is no function {exercise.name}, and no check of it{why}"))


def main():
    """Mark the notebook that stands on the standard input, and write its rows."""
    task = json.load(sys.stdin)
    limits = Limits(**task.pop("limits"))
    made_for = {int(number): cell for number, cell in task.pop("made_for").items()}
    rows = rows_of(limits=limits, made_for=made_for, **task)
    json.dump([dataclasses.asdict(row) for row in rows], sys.stdout)


if __name__ == "__main__":
    main()
