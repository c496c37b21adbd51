"""What the statement of an exercise forbids or demands, beside the right result, and how that is measured.

Each constraint is plain data, so that it can be stored without the answer. `verdict(mine, once)` measures a learner's function
and returns one line on how it breaks the constraint, or None; `once` names the arguments that can be read only once.
"""

from dataclasses import dataclass

import numpy as np

from crosscheck.lesson.arguments import bound, described, prepared, quietly
from crosscheck.lesson.measuring import HiddenLoop, TooManySteps, calls_of, peak_memory, seconds, steps


@dataclass(frozen=True)
class SinglePass:
    """An argument is an iterator that can be read once: over the rows of an array, or of a tuple of arrays side by side."""

    argument: str

    def verdict(self, mine, once):
        return None  # the argument itself makes a second pass fail


@dataclass(frozen=True)
class Memory:
    """A call with large `arguments` needs at most `most` bytes at once; `forbids` says what there is no room for."""

    arguments: dict
    most: int
    forbids: str

    def verdict(self, mine, once):
        call = caller(mine, self.arguments, once, times=2)
        needed = peak_memory(call)
        if self.most < needed < self.most + 500_000:  # what Python and NumPy set up at a first call does not count
            needed = min(needed, peak_memory(call))
        if needed <= self.most:
            return None
        sizes = f"{megabytes(needed)} at once, and at most {megabytes(self.most)} are allowed"
        return f"with {described(self.arguments)} it needs {sizes}: no room for {self.forbids}"


@dataclass(frozen=True)
class NoLoop:
    """There is no loop in Python over `axis`: with `more` elements of it, less than `more` further instructions are executed.

    `small` and `large` are arguments that differ in the length of that axis, by `more`.
    """

    small: dict
    large: dict
    more: int
    axis: str

    def verdict(self, mine, once):
        try:
            least = steps(caller(mine, self.small, once, times=2))
            steps(caller(mine, self.large, once, times=2), most=least + self.more - 1)
        except TooManySteps:
            return f"it takes more steps in Python the longer {self.axis} is, so there is a loop over it"
        except HiddenLoop as error:
            return f"{error}, and there should be no loop over {self.axis}"
        return None


@dataclass(frozen=True)
class Time:
    """With `large` arguments a call takes at most `factor` times as long as with `small` ones, in seconds and in steps of Python.

    What takes less than `least` seconds is fast enough.
    """

    small: dict
    large: dict
    factor: float
    demands: str
    least: float = 0.005

    def verdict(self, mine, once):
        few, many = (caller(mine, arguments, once, times=12) for arguments in (self.small, self.large))
        complaint = f"with {described(self.large)} it takes too long for {self.demands}"
        try:
            steps(many, most=int(self.factor * (steps(few) + 100)))
        except TooManySteps:
            return complaint
        except HiddenLoop:
            pass  # its time is measured below
        long = seconds(many)
        return complaint if long > self.least and long > self.factor * seconds(few, repeats=9) else None


@dataclass(frozen=True)
class Calls:
    """A call with `arguments` calls these functions, such as "numpy.linalg.inv", `least` to `most` times together."""

    functions: tuple[str, ...]
    arguments: dict
    most: int = 0
    least: int = 0

    def verdict(self, mine, once):
        counts = {path: calls_of(path, caller(mine, self.arguments, once)) for path in self.functions}
        total = sum(counts.values())
        if self.least <= total <= self.most:
            return None
        names = " or ".join(path.split(".")[-1] for path in self.functions if counts[path] or not total)
        wanted = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        if not self.most:
            return f"it calls {names}, and it should do without"
        return f"with {described(self.arguments)} it calls {names} {total} times, not {wanted}"


@dataclass(frozen=True)
class Unchanged:
    """A call leaves its array `argument` as it was."""

    argument: str
    arguments: dict

    def verdict(self, mine, once):
        given = prepared(self.arguments, once)
        before = given[self.argument].copy()
        quietly(mine, given)
        return (
            None if np.array_equal(before, given[self.argument]) else f"it changes {self.argument}, and should leave it as it is"
        )


KINDS = (SinglePass, Memory, NoLoop, Time, Calls, Unchanged)


def caller(mine, arguments, once, times=1):
    """A function that calls `mine`, at most so many times, with arguments of its own each time and without warnings."""
    calls = [bound(mine, prepared(arguments, once)) for _ in range(times)]  # before anything is measured
    return lambda: calls.pop()()


def megabytes(count):
    return f"{count / 1e6:.1f} MB"
