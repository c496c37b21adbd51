"""Processes below this one: how they are found, also those that moved away, and ended."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
ADOPT_ORPHANS, IS_READABLE = 36, 4
"""PR_SET_CHILD_SUBREAPER and PR_SET_DUMPABLE of Linux's prctl."""

QUIET = 5
"""Looks at the system that must find nothing, one after the other, before nothing is believed to be left."""


def guard():
    """Have orphans come to this process, and keep its memory from being read by others of its user. Both are Linux's alone."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
        libc.prctl(IS_READABLE, 0, 0, 0, 0)


def family():
    """The living processes below this one."""
    return [process for process in psutil.Process().children(recursive=True) if is_alive(process)]


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory_of(process):
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def below(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def end_each(found):
    """End the processes that `found()` returns, until it has returned none alive several times.

    A list of processes is read one after the other. Whoever gets another parent, or a child, meanwhile may be missing in it.
    """
    empty = 0
    for _ in range(300):
        left = [process for process in found() if is_alive(process)]
        for process in left:
            end(process)
        empty = 0 if left else empty + 1
        if empty == QUIET:
            return
        time.sleep(0.02)


def end(process):
    try:
        process.kill()
    except psutil.Error:
        pass


def end_all_of(uid):
    """End every process of a user. The system itself goes through them, so that none can be born in between."""
    program = "import os; os.kill(-1, 9)"
    subprocess.run([sys.executable, "-ISc", program], user=uid, group=uid, extra_groups=[], stderr=subprocess.DEVNULL)


def reap():
    """Let the system forget the orphans that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


class Nursery:
    """Starts the processes that mark notebooks, and ends what is left of a notebook whose process was killed by it."""

    def __init__(self):
        self.lock, self.children = threading.Lock(), set()

    def run(self, module, text, seconds):
        """The exit status, output and errors of a module that reads `text`.

        Raises:
            subprocess.TimeoutExpired: if it takes longer. It is ended then.
        """
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.lock:
            child = subprocess.Popen(
                [sys.executable, "-m", module],
                env=os.environ | {"PYTHONPATH": paths},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.children.add(child.pid)
        try:
            output, errors = child.communicate(text, seconds)
            return child.returncode, output, errors
        finally:
            child.kill()
            child.wait()
            with self.lock:
                self.children.discard(child.pid)
                if child.returncode:
                    self.end_strays()

    def end_strays(self):
        """End the processes below this one that belong to no child that is known: their parent is dead, and they came here."""
        end_each(lambda: [each for stray in self.strays() for each in (*below(stray), stray)])

    def strays(self):
        return [each for each in psutil.Process().children() if each.pid not in self.children]


NURSERY = Nursery()
