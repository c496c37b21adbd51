"""Measure cases and gather what was measured, as plain data that JSON can hold."""

import json
import math
import time
from importlib import import_module

import keras
import numpy as np

from crosscheck import catalogue
from crosscheck.agreement import agreement, compiled_error, gradient_error
from crosscheck.case import COMPILED_TOLERANCE, GRADIENT_TOLERANCE, TOLERANCE

LIMITS = {**TOLERANCE, "gradient": GRADIENT_TOLERANCE, "xla": COMPILED_TOLERANCE}
"""What is measured, and the error that it must stay below."""

VERDICTS = ("agrees", "out of tolerance", "raised", "not measured")


def backend():
    return keras.backend.backend()


def measure(case, dtypes=tuple(TOLERANCE), seed=0):
    """One case: what is in `LIMITS` for it, and the outputs in `dtypes` only.

    Returns:
        A dict. `errors` is {what: error}; `raised` is {what: the exception in a line}, since one broken case must not hide the
        others; `skipped` is {what: why it was not measured}.
    """
    start, errors, raised, skipped = time.perf_counter(), {}, {}, {}
    for what, run in measurements(case, dtypes, seed).items():
        if reason := case.skips.get(what) or (backend() == "jax" and case.skips.get("jax")):
            skipped[what] = reason
            continue
        try:
            errors[what] = float(run())
        except Exception as error:
            raised[what] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return {
        "case": case.name,
        **chapter_of(case),
        "errors": errors,
        "raised": raised,
        "skipped": skipped,
        "seconds": round(time.perf_counter() - start, 2),
        "verdict": judge(errors, raised),
    }


def measurements(case, dtypes, seed):
    outputs = {dtype: lambda dtype=dtype: agreement(case, dtype, seed) for dtype in case.dtypes if dtype in dtypes}
    return outputs | {"gradient": lambda: gradient_error(case, seed), "xla": lambda: compiled_error(case, seed)}


def chapter_of(case):
    name = case.name.split("/")[0]
    chapter = next(chapter for chapter in catalogue.chapters() if chapter.name == name)
    return {"chapter": chapter.title, "paper": chapter.paper, "link": chapter.link}


def within(what, error):
    """Whether an error is below its limit; one that is not a number is not."""
    return error < LIMITS[what]


def judge(errors, raised):
    """One of `VERDICTS`."""
    if raised:
        return "raised"
    if not errors:
        return "not measured"
    return "agrees" if all(within(what, error) for what, error in errors.items()) else "out of tolerance"


def report(results, seed):
    """The results with what they were measured on."""
    return {
        "backend": backend(),
        "seed": seed,
        "versions": versions(backend()),
        "tolerances": LIMITS,
        "agree": all(result["verdict"] in ("agrees", "not measured") for result in results),
        "summary": summary(results),
        "results": results,
    }


def versions(name):
    """Of Keras, of the backend called `name`, and of NumPy."""
    return {"keras": keras.__version__, name: import_module(name).__version__, "numpy": np.__version__}


def summary(results):
    """How many cases agree, and which do not."""
    named = {verdict: [result["case"] for result in results if result["verdict"] == verdict] for verdict in VERDICTS}
    agreeing, count = len(named.pop("agrees")), len(results)
    if agreeing == count:
        first = "1 case agrees" if count == 1 else f"{count} cases agree"
    else:
        first = f"{agreeing} of {count} cases agree"
    first += f" on {backend()}"
    return "; ".join([first, *(f"{verdict}: {', '.join(names)}" for verdict, names in named.items() if names)])


def as_json(report):
    """Strict JSON: an error that is infinite is the text "inf", since JSON has no number for it."""
    cases = []
    for result in report["results"]:
        errors = {what: error if math.isfinite(error) else str(error) for what, error in result["errors"].items()}
        gradient, xla = errors.pop("gradient", None), errors.pop("xla", None)
        rest = {key: value for key, value in result.items() if key != "errors"}
        cases.append(rest | {"errors": errors, "gradient": gradient, "xla": xla})
    head = {key: value for key, value in report.items() if key != "results"}
    return json.dumps(head | {"cases": cases}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
