"""Measure cases and gather what was measured, as plain data that JSON can hold."""

import json
import math
import time
from importlib import import_module

import keras
import numpy as np

from crosscheck import catalogue
from crosscheck.agreement import Trial, agreement
from crosscheck.case import COMPILED_TOLERANCE, GRADIENT_TOLERANCE, TOLERANCE

LIMITS = {**TOLERANCE, "gradient": GRADIENT_TOLERANCE, "xla": COMPILED_TOLERANCE}
"""What is measured, and the error that it must stay below."""

VERDICTS = ("agrees", "out of tolerance", "raised", "not measured")


def backend():
    return keras.backend.backend()


def measure(case, dtypes=tuple(TOLERANCE), seed=0, xla=True):
    """One case: what is in `LIMITS` for it, the outputs in `dtypes` only, and what XLA compiles only if `xla`.

    Returns:
        A dict. `errors` is {what: error}; `raised` is {what: the exception in a line}, since one broken case must not hide the
        others; `skipped` is {what: why it was not measured}.
    """
    start, errors, raised, skipped = time.perf_counter(), {}, {}, {}
    for what, run in measurements(case, dtypes, seed, xla).items():
        if reason := case.skips.get(what) or (backend() == "jax" and case.skips.get("jax")):
            skipped[what] = reason
            continue
        try:
            errors[what] = float(run())
        except Exception as error:
            raised[what] = in_a_line(error)
    return result_of(case, errors, raised, skipped, time.perf_counter() - start)


def measure_named(task):
    """`measure` for a worker, which gets (name of the case, dtypes, seed, xla)."""
    name, *options = task
    (case,) = catalogue.find_cases([name])
    return measure(case, *options)


def slopes_and_xla(name):
    """For a worker: {"gradient": errors, "xla": error} of a case; the text of the exception in place of either that raised."""
    (case,) = catalogue.find_cases([name])
    trial, found = Trial(case), {}
    for what, run in {"gradient": trial.gradient_errors, "xla": trial.compiled_error}.items():
        if what not in case.skips:
            try:
                found[what] = run()
            except Exception as error:
                found[what] = in_a_line(error)
    return found


def measurements(case, dtypes, seed, xla):
    trial = Trial(case, seed)
    wanted = [dtype for dtype in case.dtypes if dtype in dtypes]
    found = {dtype: lambda dtype=dtype: agreement(case, dtype, seed) for dtype in wanted}  # nothing of it stays in memory
    found |= {"float64": trial.agreement} if "float64" in wanted else {}
    return found | {"gradient": trial.gradient_error} | ({"xla": trial.compiled_error} if xla else {})


def died(case, death):
    """The result of a case in which the worker's process ended."""
    return result_of(case, {}, {"worker": in_a_line(death)}, {}, 0.0)


def in_a_line(error, most=300):
    """The kind and the text of an exception, at most so many characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]


def result_of(case, errors, raised, skipped, seconds):
    return {
        "case": case.name,
        **chapter_of(case),
        "errors": errors,
        "raised": raised,
        "skipped": skipped,
        "seconds": round(seconds, 2),
        "verdict": judge(errors, raised),
    }


def chapter_of(case):
    chapter = next(chapter for chapter in catalogue.chapters() if chapter.name == case.chapter)
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


def report(results, seed, asked=None, **measured):
    """The results with what they were measured on.

    Args:
        results: What `measure` returned, in reading order.
        seed: The seed of weights and inputs.
        asked: How many cases there should be, if the run may have been stopped before its end.
        measured: What else is known of the run, such as its seconds and its processes.
    """
    missing = (asked or len(results)) - len(results)
    return {
        "backend": backend(),
        "seed": seed,
        "versions": versions(backend()),
        "tolerances": LIMITS,
        "agree": not missing and all(result["verdict"] in ("agrees", "not measured") for result in results),
        "summary": summary(results, missing),
        **measured,
        "results": results,
    }


def versions(name):
    """Of Keras, of the backend called `name`, and of NumPy."""
    return {"keras": keras.__version__, name: import_module(name).__version__, "numpy": np.__version__}


def summary(results, missing=0):
    """How many cases agree, and which do not."""
    named = {verdict: [result["case"] for result in results if result["verdict"] == verdict] for verdict in VERDICTS}
    agreeing, count = len(named.pop("agrees")), len(results)
    if agreeing == count:
        first = "1 case agrees" if count == 1 else f"{count} cases agree"
    else:
        first = f"{agreeing} of {count} cases agree"
    first += f" on {backend()}"
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in named.items() if names]
    parts += [f"stopped before the other {missing}"] if missing else []
    return "; ".join([first, *parts])


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
