"""The tables of EXPORT.md: measured in processes of their own, written, and compared with the page."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from crosscheck.catalogue import representatives
from crosscheck.report.export import models
from crosscheck.report.export.formats import BY, COLUMNS, on_jax, on_tensorflow
from crosscheck.report.export.onnx_programs import NOT_HERE
from crosscheck.report.export.page import INTRODUCTION, MODELS, NOTES

TOGETHER = 10
ON = "--on"
PAGE = Path(__file__).parents[3] / "EXPORT.md"
PACKAGES = (*("keras", "tensorflow", "tensorflow-text", "jax", "onnx", "tf2onnx", "jax2onnx", "onnxruntime"),)


def names():
    """Every class, then every whole model."""
    return [*representatives(), *models.MODELS]


def measured(backend, name):
    """(column, verdict) of a class or of a whole model, on the backend of this process."""
    if name in models.MODELS:
        return models.measured(backend, name)
    return {"tensorflow": on_tensorflow, "jax": on_jax}[backend](representatives()[name])


def rows(wanted):
    """(name, {column: verdict}), some names at a time, each time in a process of its own for each backend."""
    for first in range(0, len(wanted), TOGETHER):
        some = wanted[first : first + TOGETHER]
        there = {backend: verdicts(backend, some) for backend in BY}
        for name in some:
            yield name, there["tensorflow"][name] | there["jax"][name]


def verdicts(backend, wanted):
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    program = [sys.executable, "-W", "ignore", "-m", "crosscheck.report.export", ON, backend, *wanted]
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('["')]
    found = {name: {column: verdict for which, column, verdict in lines if which == name} for name in wanted}
    if ran.returncode and len(wanted) > 1:  # a converter or an interpreter may end its process: find out with which
        return {name: verdicts(backend, [name])[name] for name in wanted}
    return {name: dict.fromkeys(BY[backend], how_it_ended(ran)) | row for name, row in found.items()}


def how_it_ended(ran):
    """A process that was ended by the system, or by an abort in the code of a converter, has no error to show."""
    if ran.returncode < 0:
        return f"ends the process ({signal.Signals(-ran.returncode).name})"
    last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
    return f"ends the process: {last}"[:160]


def line_of(name, row):
    """A line of a table."""
    shown = f"`{name}`" if name not in models.MODELS else models.MODELS[name].title
    return f"| {' | '.join([shown, *(row[column].replace('|', chr(92) + '|') for column in COLUMNS)])} |"


def table(found, what):
    head = [f"| {what} | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    return "\n".join([*head, *(line_of(name, row) for name, row in found.items())])


def versions():
    """The versions of what measures, as the page says them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return f"Measured with {', '.join(f'{name} {number}' for name, number in found.items())}.\n"


def page(found):
    """EXPORT.md, from all `rows()`."""
    classes = {name: found[name] for name in sorted(representatives())}
    wholes = {name: found[name] for name in models.MODELS}
    parts = [INTRODUCTION, versions(), table(classes, "class"), MODELS, table(wholes, "model"), NOTES]
    return "\n".join(parts)


def differences(text, found):
    """What the page `text` says that was not measured, as sentences. What could not be tried here is not compared."""
    complaints = []
    for name, row in found.items():
        start = line_of(name, row).split(" | ")[0] + " | "
        lines = [line for line in text.splitlines() if line.startswith(start)]
        cells = re.split(r"(?<!\\) \| ", lines[0].strip("| ")) if len(lines) == 1 else []
        if len(cells) != 1 + len(COLUMNS):
            complaints.append(f"{name} must have one row of {len(COLUMNS)} verdicts. Found: {len(lines)} rows")
            continue
        for column, cell in zip(COLUMNS, cells[1:]):
            now = row[column].replace("|", "\\|")
            if now not in (cell, NOT_HERE):
                complaints.append(f"{name}, {column}: the page says {cell!r}, and now it is {now!r}")
    return complaints
