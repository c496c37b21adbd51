"""Everything that a worker needs, imported once: the server that workers are forked from imports this and nothing else."""

import os
import warnings

from crosscheck.report.command import WithoutStderr, prepare

prepare(os.environ.get("KERAS_BACKEND", "tensorflow"))
warnings.filterwarnings("ignore", message="os.fork.. was called", category=RuntimeWarning)  # before any thread is there
with WithoutStderr():
    from crosscheck import catalogue
    from crosscheck.report import comparison  # noqa: F401

    catalogue.chapters()
