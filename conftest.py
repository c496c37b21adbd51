import re

import pytest


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
            if case := re.search(r"test_conformance\.py::.*\[(\w+)/", nodeid):  # a chapter's outputs on JAX are made once
                return case[1]
            return nodeid

    return Together(config, log)
