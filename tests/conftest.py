import gc
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# XLA's own passes run, those of its code generator do not: each program runs a few times, and compiles in two thirds of the time.
# The smoke tests leave it as users have it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_collection_finish():
    """What is there before the first test stays to the end, so that collecting garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()
