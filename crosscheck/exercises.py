"""Tell a learner whether an answer is right, and if not, where it first goes wrong."""

import numpy as np


def check(answer, mine, sizes, seed=0):
    """Call both functions on the same arguments, print one line on how they compare, and return whether they agree.

    Args:
        answer: The reference function.
        mine: The learner's function.
        sizes: {argument: shape, for an array of normal numbers; or the argument itself, if it is no tuple of sizes}.
        seed: Of the numbers.
    """
    rng = np.random.default_rng(seed)
    arguments = {name: rng.normal(size=size) if is_shape(size) else size for name, size in sizes.items()}
    verdict = compare(answer, mine, arguments)
    print(verdict or "right")
    return not verdict


def is_shape(size):
    return isinstance(size, tuple) and all(isinstance(axis, int) for axis in size)


def compare(answer, mine, arguments):
    """What is wrong with `mine`, in one line; nothing if it is right."""
    try:
        found = mine(**arguments)
    except Exception as error:
        return f"it stopped with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    expected = answer(**arguments)
    if found is None:
        return "not yet: it returns nothing"
    if not isinstance(expected, tuple):
        return difference(found, expected)
    if not isinstance(found, tuple) or len(found) != len(expected):
        return f"it should return {len(expected)} results"
    complaints = (difference(f, e, f"result {i}: ") for i, (f, e) in enumerate(zip(found, expected), 1))
    return next(filter(None, complaints), None)


def difference(found, expected, where=""):
    try:
        found = np.asarray(found)
        wrong = ~np.isclose(found, expected, rtol=1e-9, atol=1e-12) if found.shape == np.shape(expected) else None
    except (TypeError, ValueError):
        return f"{where}it returns a {type(found).__name__}, not numbers"
    if wrong is None:
        return f"{where}the shape should be {np.shape(expected)}, not {found.shape}"
    if not wrong.any():
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f" at {list(first)}" if first else ""
    return (
        f"{where}{wrong.sum()} of {wrong.size} values differ; the first{place} should be "
        f"{float(np.asarray(expected)[first]):.6g}, not {float(found[first]):.6g}"
    )
