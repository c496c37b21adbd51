"""The student's process: runs the cells of a notebook, and calls an answer with whatever inputs the grader sends.

It knows neither the answers nor what is expected. `python -m crosscheck.lesson.grading.runner DESCRIPTOR` is how the grader
starts it, where the descriptor is that of a socket.
"""

import ast
import ctypes
import functools
import importlib
import os
import resource
import signal
import socket
import sys
import types
from contextlib import contextmanager

import numpy as np

from crosscheck.lesson import measuring
from crosscheck.lesson.arguments import bound
from crosscheck.lesson.grading.wire import Channel
from crosscheck.lesson.stored import decode

FILE_SIZE = 200_000_000
"""Bytes of a file that a notebook may write."""
MOST_RESULTS = 20
"""Different results of measured calls that are sent."""
END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


class TimeLimit(BaseException):
    """A cell or an answer takes too long. No `except Exception` on the way catches it."""


class Session:
    """A notebook that runs, and answers the grader's questions about it.

    Args:
        channel: Leads to the grader.
        seconds: Time for each cell and each call of an answer.
    """

    def __init__(self, channel, seconds):
        self.channel, self.seconds, self.is_asked, self.namespace = channel, seconds, False, {}

    def run(self, cells):
        """Run cells, then answer until the grader says that it is enough. After a cell that fails, the next one runs."""
        shell = make_shell()
        self.namespace = shell.user_ns
        failed = []
        for number, source in enumerate(cells, 1):
            self.channel.send(cell=number)
            with self.alarm():
                result = shell.run_cell(source)
            if error := result.error_before_exec or result.error_in_exec:
                failed.append((number, *in_words(error)))
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")
        self.channel.send(end=failed[:20])
        while asked := self.channel.receive().get("find"):
            mine = self.found(asked, cells)
            self.channel.send(missing=asked) if mine is None else self.ask(asked, mine)

    def check(self, name, mine, folder=None):
        """What stands in a notebook for `check`: prints nothing, and has the grader ask about `mine`."""
        if not self.is_asked:
            with self.no_alarm():
                self.ask(name, mine)

    def ask(self, name, mine):
        self.is_asked = True
        try:
            self.channel.send(check=str(name)[:100])
            while not (request := self.channel.receive()).get("done"):
                self.reply(mine, request)
        finally:
            self.is_asked = False

    def reply(self, mine, request):
        """Send what `mine` returns for arguments, or how it breaks a constraint, or the error with which it stopped."""
        try:
            with self.alarm():
                if "constraint" in request:
                    answer = measured(mine, **request)
                else:
                    answer = {"result": bound(mine, request["arguments"])()}
            return self.channel.send(**answer)
        except OSError:
            raise
        except BaseException as error:
            answer = {"error": in_words(error)}
        return self.channel.send(**answer)

    def found(self, asked, cells):
        """The function of that name, or else the last one of the cell that was made for it; None if there is neither."""
        mine = self.namespace.get(asked["name"])
        if mine is None and asked["cell"]:
            mine = self.namespace.get(last_function(cells[asked["cell"] - 1]))
        return mine

    @contextmanager
    def alarm(self):
        """Raise `TimeLimit` in what takes too long, if it is Python that can be interrupted."""

        def stop(*_):
            raise TimeLimit(f"more than {self.seconds:.3g} s")

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @contextmanager
    def no_alarm(self):
        """While the grader asks, no message may be cut in two; afterwards the cell has its time anew."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)


def measured(mine, constraint, arrays, once):
    """What a constraint says of `mine`, and what `mine` returned meanwhile, so that it cannot do less while it is measured."""
    results = []

    @functools.wraps(mine)
    def kept(*arguments, **named):
        results.append(mine(*arguments, **named))
        return results[-1]

    complaint = decode(constraint, arrays).verdict(kept, once)
    different = results[:1]
    for result in results[1:]:
        if len(different) < MOST_RESULTS and not any(same(result, other) for other in different):
            different.append(result)
    return {"complaint": complaint, "results": different}


def same(one, other):
    """Whether two results are equal without doubt."""
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    try:
        one, other = np.asarray(one), np.asarray(other)
        return one.dtype == other.dtype and one.dtype.kind in "fiubU" and np.array_equal(one, other)
    except Exception:
        return False


def in_words(error):
    """The kind of an error, and its first line."""
    try:
        message = str(error).strip().splitlines()
    except BaseException:
        message = []
    return type(error).__name__[:60], (message[0] if message else "")[:500]


def last_function(source):
    """The name of the last function that a cell defines; None if there is none."""
    try:
        nodes = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return next((node.name for node in reversed(nodes) if isinstance(node, ast.FunctionDef)), None)


def make_shell():
    """An IPython without history, in which cells run as in a notebook."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "NoColor"
    shell = InteractiveShell.instance(config=settings)
    shell.history_manager.outputs = Forgetful()
    return shell


class Forgetful(dict):
    """Where IPython 9 would keep all that a notebook prints: gigabytes may be printed, and nobody reads them."""

    def __contains__(self, key):
        return False

    def __getitem__(self, key):
        return []


def limit(memory, seconds):
    """Take from this process, and all that it starts, what it must not have. It may not take it back unless it is root's."""
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        libc.prctl(END_WITH_PARENT, signal.SIGKILL)
    limits = {resource.RLIMIT_DATA: memory, resource.RLIMIT_FSIZE: FILE_SIZE, resource.RLIMIT_CORE: 0}
    limits[resource.RLIMIT_CPU] = int(4 * seconds) + 30  # of each process, in case that nobody is left to end it
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def set_apart():
    """Give the notebook modules of its own, so that what it changes in them does not change how it is measured."""
    for name in ("inspect", "sys", "time", "tracemalloc"):
        setattr(measuring, name, types.SimpleNamespace(**vars(getattr(measuring, name))))
    for name in [name for name in sys.modules if name.startswith("crosscheck.lesson.")]:
        del sys.modules[name]
    return importlib.import_module("crosscheck.lesson.exercises")


def main():
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    os.register_at_fork(after_in_child=channel.socket.close)  # a copy of this process has nothing to say
    task = channel.receive()
    exercises = set_apart()
    session = Session(channel, task["cell_seconds"])
    exercises.check = session.check
    sys.modules["exercises"] = beside = types.ModuleType("exercises")  # what the student's edition has beside its notebooks
    beside.check = session.check
    sys.argv[1:] = []
    limit(task["memory"], task["seconds"])
    session.run(task["cells"])
    os._exit(0)


if __name__ == "__main__":
    main()
