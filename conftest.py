import os
import re

import pytest

# Every worker and every lesson has a core to itself, so that threads of its own would only wait for each other.
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

TOGETHER = ("tests/examples/test_examples.py", "tests/common/test_text.py")
"""Files whose tests share what takes long to make."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One more than there are cores, because a worker waits where a kernel or another process starts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Which tests stay together on one worker; all others go to whichever worker is free.

    xdist's own `--dist=loadgroup` groups nothing under pytest 9.2, and says nothing of it
    (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            if file.endswith(".ipynb"):  # a cell needs what the cells above it left in the kernel
                return file
            if file.endswith(TOGETHER):
                return file
            if case := re.search(r"/conformance/.*::.*\[(\w+)/", nodeid):  # a chapter's outputs on JAX are made once
                return case[1]
            return nodeid

    return Together(config, log)


def pytest_collection_modifyitems(items):
    """What every layer promises is asked case by case, so that the checks of a case can share what they need."""
    places, cases = [], {}
    for place, item in enumerate(items):
        if case := re.search(r"/conformance/.*::.*\[(\w+/[\w-]+?)(?:-(?:mixed_)?b?float\d+)?\]$", item.nodeid):
            places.append(place)
            cases.setdefault(case[1], []).append(item)
    for place, item in zip(places, [item for group in cases.values() for item in group]):
        items[place] = item
