"""Write what the cases of one chapter return, to compare backends: `python -m crosscheck.report.outputs CHAPTER FILE.npz`."""

import sys

import numpy as np

from crosscheck.agreement import outputs_of
from crosscheck.catalogue import find_cases


def main(chapter, file):
    cases = [case for case in find_cases([chapter]) if "jax" not in case.skips]
    np.savez(file, **{f"{case.name}:{where}": leaf for case in cases for where, leaf in outputs_of(case).items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
