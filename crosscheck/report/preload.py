"""Imports everything that a worker needs. The server from which workers are forked imports this module once."""

import os
import warnings

from crosscheck.report.command import WithoutStderr, prepare

prepare(os.environ.get("KERAS_BACKEND", "tensorflow"))
warnings.filterwarnings("ignore", message="os.fork.. was called", category=RuntimeWarning)  # before any thread is there
with WithoutStderr():
    from crosscheck import catalogue
    from crosscheck.report import comparison  # noqa: F401

    catalogue.chapters()
