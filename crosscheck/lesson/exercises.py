"""Check a learner's answer: on inputs that are drawn anew, edge cases among them, and against what the statement forbids.

`python -m crosscheck.lesson.exercises` prints how many wrong answers each exercise is known to refuse.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from crosscheck.lesson.arguments import Edge, described, edge, prepared, quietly
from crosscheck.lesson.constraints import SinglePass
from crosscheck.lesson.differences import difference
from crosscheck.lesson.stored import load

__all__ = ["Exercise", "check", "edge", "verdict"]

FOLDER = Path(__file__).parents[2] / "exercises"
STORED = Path("exercises")
"""Where the student's edition has its checks, seen from a notebook."""


class Sizes(np.random.Generator):
    """Draws single integers as Python's own, as a learner would write them."""

    def integers(self, *arguments, **options):
        drawn = super().integers(*arguments, **options)
        return int(drawn) if np.ndim(drawn) == 0 else drawn


@dataclass(frozen=True)
class Exercise:
    """Attributes:

    name: Name of the function in the lesson.
    answer: A function of that signature.
    inputs: Draws a list of 3 or more {argument: value}, of different sizes; an edge case is an `edge` with a name.
    constraints: What the statement forbids or demands, of `crosscheck.lesson.constraints`.
    wrong: {what is wrong: a function that a student may give}, at least 3.
    right: {what is different: another function that is right}.
    """

    name: str
    answer: Callable
    inputs: Callable[[np.random.Generator], list[dict]]
    constraints: tuple = ()
    wrong: dict[str, Callable] = field(default_factory=dict)
    right: dict[str, Callable] = field(default_factory=dict)

    def draw(self, seed=None):
        """Inputs, drawn anew without a seed."""
        return self.inputs(Sizes(np.random.PCG64(seed)))

    def cases(self, seed=None):
        """Inputs, each with the expected result."""
        for arguments in self.draw(seed):
            yield arguments, quietly(self.answer, prepared(arguments, read_once(self)))


def read_once(exercise):
    """The names of the arguments that can be read only once."""
    return tuple(c.argument for c in exercise.constraints if isinstance(c, SinglePass))


def verdict(exercise, mine, seed=None, measured=True):
    """What is wrong with `mine`, in one line; None if it is right.

    Args:
        exercise: An `Exercise`, or one that was stored.
        mine: The learner's function. It gets copies of its arguments.
        seed: For the same inputs each time.
        measured: Whether constraints are measured too, which may take a second.
    """
    once = read_once(exercise)
    for number, (arguments, expected) in enumerate(exercise.cases(seed)):
        try:
            complaint = difference(quietly(mine, prepared(arguments, once)), expected)
        except Exception as error:
            complaint = stopped(error)
        if complaint == "it returns nothing" and number == 0:
            return f"not yet: {complaint}"
        if complaint:
            return f"for {situation(arguments)}: {complaint}"
    for constraint in exercise.constraints if measured else ():
        try:
            complaint = constraint.verdict(mine, once)
        except Exception as error:
            complaint = f"with large inputs {stopped(error)}"
        if complaint:
            return complaint
    return None


def stopped(error):
    message = str(error).strip().splitlines()
    return f"it stopped with {type(error).__name__}: {message[0] if message else 'no message'}"


def situation(arguments):
    """The arguments in words; of an edge case, first its name."""
    return f"{arguments.name} ({described(arguments)})" if isinstance(arguments, Edge) else described(arguments)


def check(name, mine, folder=None):
    """Print one line on a learner's function, "right" or what is wrong with it, and return whether it is right.

    Args:
        name: Lesson and number of the exercise, such as "attention/1".
        mine: The learner's function.
        folder: Where the student's edition has its checks; `exercises` in the current folder unless given.
    """
    complaint = verdict(find(name, folder), mine)
    print(complaint or "right")
    return complaint is None


def find(name, folder=None):
    """The exercise called `name`: that of the student's edition in this folder if there is one, else that of the clone.

    Raises:
        ValueError: if there is none.
    """
    lesson, _, number = name.partition("/")
    stored = (folder or STORED) / f"{lesson}.json"
    if stored.is_file():
        found = load(stored)
    elif (FOLDER / f"{lesson}.py").is_file():
        found = exercises_of(lesson)
    else:
        raise ValueError(f"name must be a lesson and a number; no exercises of {lesson} are in {STORED.resolve()} or {FOLDER}")
    if not (number.isdecimal() and 1 <= int(number) <= len(found)):
        raise ValueError(f"{lesson} has the exercises 1 to {len(found)}. Received: name={name!r}")
    return found[int(number) - 1]


@cache
def exercises_of(lesson):
    """`EXERCISES` of `exercises/LESSON.py`. The folder is no installed package, so it is found by its place."""
    spec = importlib.util.spec_from_file_location(f"exercises.{lesson}", FOLDER / f"{lesson}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXERCISES


def lessons_with_exercises():
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def table():
    """Rows of: lesson, exercise, wrong answers, right variants, constraints."""
    rows = [("lesson", "exercise", "wrong", "right", "constraints")]
    for lesson in lessons_with_exercises():
        for exercise in exercises_of(lesson):
            kinds = ", ".join(type(constraint).__name__ for constraint in exercise.constraints)
            rows.append((lesson, exercise.name, len(exercise.wrong), len(exercise.right), kinds))
    return rows


def main():
    """Print the table."""
    rows = table()
    for lesson, name, wrong, right, kinds in rows:
        print(f"{lesson:28}{name:24}{wrong!s:>6}{right!s:>7}  {kinds}".rstrip())
    total = [sum(row[place] for row in rows[1:]) for place in (2, 3)]
    print(f"{len(rows) - 1} exercises: {total[0]} wrong answers refused, {total[1]} other right answers accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
