"""What layers return on another backend: `python -m crosscheck.report.outputs` answers one question a line, for comparisons.

A question is `CHAPTER FILE.npz`; the answer is `done` when the outputs of the chapter's cases are in the file, else the reason.
Each chapter is computed in a fork of this process, so that what it compiled is gone afterwards.
"""

import os
import sys

import numpy as np

from crosscheck.agreement import Trial
from crosscheck.catalogue import find_cases
from crosscheck.report.comparison import in_a_line


def main():
    for question in sys.stdin:
        chapter, file = question.rstrip("\n").split(" ", 1)
        print(in_a_fork(lambda chapter=chapter, file=file: save(chapter, file)), flush=True)


def save(chapter, file):
    """Write {"case:leaf": float64 array} for each case that can run on JAX."""
    cases = [case for case in find_cases([chapter]) if "jax" not in case.skips]
    np.savez(file, **{f"{case.name}:{where}": leaf for case in cases for where, leaf in Trial(case).output().items()})


def in_a_fork(work):
    """Do `work` in a child process. Returns "done", or the error in a line."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            said = "done"
        except BaseException as error:
            said = in_a_line(error, most=4000)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"the process ended with status {status}"


if __name__ == "__main__":
    main()
