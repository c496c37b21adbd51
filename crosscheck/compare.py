"""Measure cases and gather what was measured, as plain data that JSON can hold."""

import json
import math
import time
from importlib.metadata import version

import keras

from crosscheck.agreement import agreement, compiled_error, gradient_error
from crosscheck.case import COMPILED_TOLERANCE, GRADIENT_TOLERANCE, TOLERANCE
from crosscheck.catalogue import chapters

LIMITS = {**TOLERANCE, "gradient": GRADIENT_TOLERANCE, "xla": COMPILED_TOLERANCE}
"""What is measured, and how large it may be."""


def measure(case, dtypes=tuple(TOLERANCE), seed=0):
    """Everything in `LIMITS` for one case: {"errors": {what: number}, "stopped": what it stopped with or None, ...}."""
    start, errors, stopped = time.perf_counter(), {}, None
    try:
        for dtype in dtypes:
            if dtype in case.dtypes:
                errors[dtype] = agreement(case, dtype, seed)
        for what, error in (("gradient", gradient_error(case, seed)), ("xla", compiled_error(case, seed))):
            if error is not None:
                errors[what] = error
    except Exception as error:  # one broken case must not hide the others
        stopped = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    chapter = next((chapter for chapter in chapters() if case in chapter.cases), None)
    return {
        "case": case.name,
        "chapter": chapter.title if chapter else case.name.split("/")[0],
        "paper": chapter.paper if chapter else "",
        "link": chapter.link if chapter else "",
        "errors": errors,
        "stopped": stopped,
        "skipped": case.skips,
        "agrees": stopped is None and all(agrees(what, error) for what, error in errors.items()),
        "seconds": round(time.perf_counter() - start, 2),
    }


def agrees(what, error):
    """Whether an error is within its limit; one that is not a number is not."""
    return error < LIMITS[what]


def report(results, seed):
    """The results with what they were measured on."""
    backend = keras.backend.backend()
    return {
        "backend": backend,
        "seed": seed,
        "versions": {name: version(name) for name in ("numpy", "keras", backend)},
        "limits": LIMITS,
        "agree": all(result["agrees"] for result in results),
        "results": results,
    }


def verdict(report):
    """One sentence."""
    wrong = [result["case"] for result in report["results"] if not result["agrees"]]
    count = len(report["results"])
    cases = "1 case" if count == 1 else f"{count} cases"
    return f"{cases} on {report['backend']}: " + (
        f"out of tolerance: {', '.join(wrong)}" if wrong else "layers and references agree"
    )


def as_json(report):
    """Strict JSON: an infinite error is the text "inf", since JSON has no number for it."""
    results = [
        result | {"errors": {what: e if math.isfinite(e) else "inf" for what, e in result["errors"].items()}}
        for result in report["results"]
    ]
    return json.dumps(report | {"results": results}, indent=1, allow_nan=False) + "\n"
