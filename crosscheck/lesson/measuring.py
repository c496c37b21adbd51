"""What a call does, measured while it runs: its memory, its steps in Python, its calls of one function, its time."""

import builtins
import importlib
import inspect
import sys
import time
import tracemalloc
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np


class TooManySteps(BaseException):
    """A call took more steps in Python than it may. No `except Exception` on the way catches it."""


class HiddenLoop(Exception):
    """A call used a function of NumPy that is a loop in Python."""


HIDDEN_LOOPS = ("vectorize", "apply_along_axis", "apply_over_axes", "frompyfunc")


def peak_memory(call):
    """The largest number of bytes, arrays of NumPy included, that `call()` needed at once, beside what there was before it."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def steps(call, most=None):
    """How many instructions of Python `call()` executes, in its own functions and in those that they call.

    It is called twice, and the second call counts: a first one may make caches, and Python 3.13 does not report all of it.

    Raises:
        TooManySteps: as soon as there are more than `most`.
        HiddenLoop: if it uses one of `HIDDEN_LOOPS`.
    """
    steps_once(call, most and most + 100_000)
    return steps_once(call, most)


def steps_once(call, most):
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            count += 1
            if most is not None and count > most:
                raise TooManySteps(f"more than {most} steps")
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 wants this before tracing begins
    with visible_loops():
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
    return count


@contextmanager
def visible_loops():
    """Loops inside of C code are loops too: `map` takes a step for each item, and NumPy's loops over a function are refused."""

    def stepping_map(function, *iterables):
        for items in zip(*iterables):
            yield function(*items)

    def refused(name):
        def refuse(*arguments, **options):
            raise HiddenLoop(f"np.{name} is a loop in Python")

        return refuse

    with patch.object(builtins, "map", stepping_map), patch.multiple(np, **{name: refused(name) for name in HIDDEN_LOOPS}):
        yield


def calls_of(path, call):
    """How often `call()` calls the function at `path`, such as "numpy.linalg.inv", under whatever name it was imported.

    Raises:
        ValueError: if it is not written in Python, so that its calls leave no trace.
    """
    code, count = getattr(inspect.unwrap(named(path)), "__code__", None), 0
    if code is None:
        raise ValueError(f"path must name a function written in Python. Received: {path!r}")

    def profile(frame, event, argument):
        nonlocal count
        if event == "call" and frame.f_code is code:
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count


def named(path):
    """The function at `path`: the longest beginning that is a module, and then its attributes."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ValueError(f"path must name a function in a module. Received: {path!r}")


def seconds(call, repeats=3, clock=time.thread_time):
    """The least time that `call()` took, because other work on the machine only adds to it.

    Args:
        call: What is timed, without arguments.
        repeats: How often.
        clock: By default, the time that this thread works. `time.process_time` counts all threads, `time.perf_counter` waiting.
    """
    times = []
    for _ in range(repeats):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)
