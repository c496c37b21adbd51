"""Processes of their own, for what would stay in a test's process for ever."""

import json
import os
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest

from crosscheck.report.training import DEVICES
from crosscheck.report.workers import LastingWorker


@pytest.fixture(scope="session")
def slopes_and_xla():
    """Measures gradients and XLA in a process of its own, which takes with it the programs that XLA keeps for ever."""
    worker = LastingWorker("crosscheck.report.comparison:slopes_and_xla")
    yield lru_cache(maxsize=1)(worker)
    worker.stop()


@pytest.fixture(scope="session")
def ask_jax(tmp_path_factory):
    """A function of a question and a chapter, or a case: the folder of what the JAX backend, in a process of its own, answers.

    `crosscheck/report/outputs.py` has the questions and the files of each answer.
    """
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={DEVICES}"
    on_jax = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "PYTHONWARNINGS": "ignore", "XLA_FLAGS": flags}
    program = [sys.executable, "-m", "crosscheck.report.outputs"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(program, env=os.environ | on_jax, text=True, **pipes)

    def ask(what, chapter_or_case):
        folder = tmp_path_factory.mktemp("jax")
        print(what, chapter_or_case, folder, file=process.stdin, flush=True)
        said = process.stdout.readline().strip()
        assert said == "done", said
        return folder

    yield ask
    process.stdin.close()
    process.stdout.close()
    process.wait()


@pytest.fixture(scope="session")
def on_jax(ask_jax, request):
    """What a chapter's cases give on JAX: {case:leaf: array} of the outputs, and {case: what a symbolic call gave}.

    Only those cases are computed that a test of this run asks for.
    """
    asked = {item.callspec.params["case"].name for item in request.session.items if "on_jax" in getattr(item, "fixturenames", ())}

    def found(chapter):
        folder = ask_jax("outputs", ",".join(sorted(name for name in asked if name.startswith(f"{chapter}/"))))
        return dict(np.load(folder / "outputs.npz")), json.loads((folder / "symbolic.json").read_text())

    return lru_cache(maxsize=1)(found)


@pytest.fixture(scope="session")
def moves_on_jax(ask_jax):
    """{case:optimizer:weight: array} of a chapter's classes on JAX: how far one step of training moves each weight."""
    return lru_cache(maxsize=1)(lambda chapter: dict(np.load(ask_jax("moves", chapter) / "moves.npz")))


@pytest.fixture
def variant_on_jax(ask_jax):
    """A function of the name of one of `crosscheck.report.variants.VARIANTS` and of a case: what it returns on JAX."""
    return lambda what, case: json.loads((ask_jax(what, case) / "variant.json").read_text())
