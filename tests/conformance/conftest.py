"""Processes of their own, for what would stay in a test's process for ever."""

import json
import os
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest

from crosscheck.report.workers import LastingWorker, context_of_workers

QUICK = "--xla_backend_optimization_level=0"
"""XLA's own passes run, those of its code generator do not: each program runs once, and compiles in two thirds of the time."""


@pytest.fixture(scope="session")
def slopes_and_xla():
    """Measures gradients and XLA in a process of its own, which takes with it the programs that XLA keeps for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", QUICK)
        context_of_workers()  # starts their server with this environment
    worker = LastingWorker("crosscheck.report.comparison:slopes_and_xla")
    yield lru_cache(maxsize=1)(worker)
    worker.stop()


@pytest.fixture(scope="session")
def on_jax(tmp_path_factory):
    """What a chapter's cases give on the JAX backend, which runs in a process of its own.

    {case:leaf: array} of the outputs, and {case: what a symbolic call gave}, as `crosscheck/report/outputs.py` describes it.
    """
    on_jax = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "PYTHONWARNINGS": "ignore", "XLA_FLAGS": QUICK}
    environment = os.environ | on_jax
    program = [sys.executable, "-m", "crosscheck.report.outputs"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(program, env=environment, text=True, **pipes)

    @lru_cache(maxsize=1)
    def found(chapter):
        folder = tmp_path_factory.mktemp("jax")
        print(chapter, folder, file=process.stdin, flush=True)
        said = process.stdout.readline().strip()
        assert said == "done", said
        return dict(np.load(folder / "outputs.npz")), json.loads((folder / "symbolic.json").read_text())

    yield found
    process.stdin.close()
    process.stdout.close()
    process.wait()
