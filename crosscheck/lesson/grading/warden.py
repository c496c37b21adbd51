"""Starts a student's process with limits, watches it, and ends it with everything that it started.

These are limits, not a sandbox: the process is one of the same user, unless it is given another, and can read what that user can.
`course/GRADING.md` says what that leaves open, and how to close it with a container.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crosscheck.lesson.grading.processes import end_all_of, end_each, family, guard, memory_of, reap
from crosscheck.lesson.grading.wire import Channel

ROOT = Path(__file__).parents[3]
PACKAGES = ("reference", "layers", "crosscheck", "experiments")
"""What notebooks import. `exercises`, with the answers, is not among them."""
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "KERAS_BACKEND", "MINILM")
"""Variables of the environment that a notebook gets; others may hold what is none of its business."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
MOST_PROCESSES, MOST_FILES, MOST_BYTES = 64, 20_000, 1_000_000_000


class Lost(BaseException):
    """The student's process is gone, or talks nonsense. No verdict takes it for an answer's error: it is no `Exception`."""


@dataclass(frozen=True)
class Limits:
    """Attributes:

    seconds: For a whole notebook.
    memory: Bytes of data, of each process and of all together.
    uid: The user who runs the notebook; None for the one who grades.
    """

    seconds: float = 300
    memory: int = 4_000_000_000
    uid: int | None = None


class Student:
    """The process of one notebook, in an empty folder. Use as `with Student(limits, folder) as student`."""

    def __init__(self, limits, base):
        self.limits, self.broken, self.is_over = limits, None, threading.Event()
        self.base, self.folder = base, base / "work"

    def __enter__(self):
        guard()
        self.start()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        return self

    def start(self):
        for name in PACKAGES:
            shutil.copytree(ROOT / name, self.base / "course" / name)
        (self.folder / "tmp").mkdir(parents=True)
        (self.folder / "exercises").mkdir()  # by which the first cell of a lesson knows that nothing has to be cloned
        options = {}
        if self.limits.uid is not None:
            for path in (self.folder, self.folder / "tmp"):
                os.chown(path, self.limits.uid, self.limits.uid)
            options = {"user": self.limits.uid, "group": self.limits.uid, "extra_groups": []}
        ours, theirs = socket.socketpair()
        ours.settimeout(self.limits.seconds + 10)
        self.deadline = time.monotonic() + self.limits.seconds
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-m", "crosscheck.lesson.grading.runner", str(theirs.fileno())],
                cwd=self.folder,
                env=environment(self.base),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )
        self.channel = Channel(ours)

    def watch(self):
        """End the process as soon as a limit is passed."""
        rounds = 0
        while not self.is_over.wait(0.2):
            rounds += 1
            self.broken = self.complaint(look_at_files=rounds % 5 == 0)
            if self.broken:
                self.kill()
                return

    def complaint(self, look_at_files=True):
        """Which limit is passed, in words; None if none is."""
        if time.monotonic() > self.deadline:
            return f"it took more than {self.limits.seconds:.4g} s"
        processes = family()
        if len(processes) > MOST_PROCESSES:
            return f"it started more than {MOST_PROCESSES} processes"
        if sum(map(memory_of, processes)) > self.limits.memory:
            return f"it needed more than {self.limits.memory / 1e9:.3g} GB of memory"
        if look_at_files and holds_too_much(self.folder):
            return f"it wrote more than {MOST_BYTES / 1e9:.3g} GB or {MOST_FILES:,} files"
        return None

    def kill(self):
        """End the process and all that it started, also what has moved away from it."""
        if self.limits.uid is not None:
            end_all_of(self.limits.uid)
        end_each(family)

    def reason(self):
        """Why the process is lost, in words."""
        if not self.broken:
            self.wait()
        status = self.process.poll()
        if self.broken or status is None:
            return self.broken or "it closed the line to the grader"
        return f"its process {ended(status)}"

    def wait(self, seconds=2):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass

    def __exit__(self, *error):
        self.is_over.set()
        self.watcher.join()
        self.kill()
        self.wait(10)
        reap()
        self.channel.socket.close()


def ended(status):
    if status >= 0:
        return f"ended itself, with exit status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def environment(base):
    """The variables of a student's process."""
    variables = {name: os.environ[name] for name in KEPT if name in os.environ} | dict.fromkeys(THREADS, "1")
    work = str(base / "work")
    places = {"HOME": work, "TMPDIR": f"{work}/tmp", "IPYTHONDIR": work, "MPLCONFIGDIR": work, "PYTHONPATH": str(base / "course")}
    offline = {"PIP_NO_INDEX": "1", "GIT_ALLOW_PROTOCOL": "none"}  # a lesson that misses something must not install it here
    quiet = {"MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return (
        variables | places | offline | quiet | {"LOGNAME": "student", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
    )


def holds_too_much(folder):
    count = size = 0
    for place, _, files in os.walk(folder):
        count += 1 + len(files)
        for name in files:
            try:
                size += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                pass
        if count > MOST_FILES or size > MOST_BYTES:
            return True
    return False


@contextmanager
def empty_folder():
    """A folder that other users may enter; it is deleted in the end, whatever is in it."""
    base = Path(tempfile.mkdtemp(prefix="grade-"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        remove(base)


def remove(base):
    """Delete a folder of which every process has ended, also if it is deep or its files were made to be kept."""
    if base.is_symlink():
        return base.unlink()
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, str(base)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return None
