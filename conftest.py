import re

import pytest

TOGETHER = ("tests/examples/test_examples.py", "tests/common/test_text.py")
"""Files whose tests share what takes long to make."""


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
