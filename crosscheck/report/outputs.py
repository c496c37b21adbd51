"""What layers return on another backend: `python -m crosscheck.report.outputs` answers one question a line, for comparisons.

A question is `outputs CHAPTER FILE.npz`, for the outputs of the chapter's cases, or `moves CHAPTER FILE.npz`, for how far a step
of training moves the weights of its classes. The answer is `done` when they are in the file, else the reason.
Each chapter is computed in a fork of this process, so that what it compiled is gone afterwards.
"""

import os
import sys

import numpy as np

from crosscheck.agreement import Trial
from crosscheck.catalogue import find_cases
from crosscheck.report.comparison import in_a_line
from crosscheck.report.steps import moves, representatives


def main():
    for question in sys.stdin:
        what, chapter, file = question.rstrip("\n").split(" ", 2)
        print(in_a_fork(lambda what=what, chapter=chapter, file=file: save(what, chapter, file)), flush=True)


def save(what, chapter, file):
    """Write {"case:leaf": float64 array}, or {"case:optimizer:weight": float64 array}, for cases that can run on JAX."""
    cases = [case for case in find_cases([chapter]) if "jax" not in case.skips]
    if what == "moves":
        found = {case.name: moves(case) for case in representatives(cases)}
    else:
        found = {case.name: Trial(case).output() for case in cases}
    np.savez(file, **{f"{name}:{where}": leaf for name, leaves in found.items() for where, leaf in leaves.items()})


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
