import os
import re
import sys

import pytest

# nbval reads notebooks with nbformat, whose checks of addresses would compile a grammar for three seconds in every worker. No
# notebook has an address to check. pyproject.toml keeps pytest from loading nbval before this line.
sys.modules.setdefault("rfc3987_syntax", None)
pytest_plugins = [] if "nbval.plugin" in sys.modules else ["nbval.plugin"]

# Every worker and every lesson has a core to itself, so that threads of its own would only wait for each other.
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

TOGETHER = re.compile(r"tests/(examples/test_examples|common/test_(text|layouts)|machinery/test_grading|projects/test_\w+)\.py$")
"""Files whose tests share what takes long to make."""


ROOM = 1.7e9
"""Bytes above which a worker makes place for a new one: TensorFlow and JAX keep part of what they compiled until they end."""


BACKEND = os.environ.get("KERAS_BACKEND") or "tensorflow"


def pytest_configure(config):
    """The stored outputs are those of TensorFlow; on JAX the last digits differ, and the asserts of a lesson say what matters."""
    if BACKEND != "tensorflow":
        config.option.nbval_lax = True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    report.memory = memory_in_use()
    return report


def memory_in_use():
    """The bytes of this process's memory, or 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


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
        def __init__(self, config, log):
            super().__init__(config, log)
            self.memory, self.replaced = {}, set()
            config.pluginmanager.register(self)

        def pytest_runtest_logreport(self, report):
            self.memory[report.node] = getattr(report, "memory", 0)  # a worker that died says nothing

        def pytest_testnodedown(self, node):
            """End the process of a worker that was replaced; xdist would keep it, and its memory, until all tests are done."""
            if node in self.replaced:
                node.gateway.exit()

        def _reschedule(self, node):
            """Give a worker that is nearly done more work, or end it and start another if its memory is full."""
            if node not in self.registered_collections:
                return  # it has just started, and gets work when it knows the tests
            if self.memory.get(node, 0) < ROOM or not self.workqueue:
                super()._reschedule(node)
            elif node not in self.replaced and self._pending_of(self.assigned_work[node]) <= 2:
                self.replaced.add(node)
                node.shutdown()  # after the tests that it has
                config.pluginmanager.getplugin("dsession")._clone_node(node)

        def remove_node(self, node):
            """The test at which a worker died, if it died. xdist would run it again, and then wait for tests that have ended."""
            work = self.assigned_work.pop(node)
            waiting = [(tests, test) for tests in work.values() for test, is_done in tests.items() if not is_done]
            if not waiting:
                return None
            tests, test = waiting[0]
            tests[test] = True
            self.workqueue.update({scope: tests for scope, tests in work.items() if not all(tests.values())})
            for other in self.assigned_work:
                self._reschedule(other)
            return test

        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            if file.endswith(".ipynb"):  # a cell needs what the cells above it left in the kernel
                return file
            if TOGETHER.search(file):
                return file
            if case := re.search(r"/conformance/.*::.*\[(\w+)/", nodeid):  # a chapter's outputs on JAX are made once
                return case[1]
            return nodeid

    return Together(config, log)


def pytest_collection_modifyitems(items):
    mark_notebooks(items)
    in_order_of_cases(items)


def mark_notebooks(items):
    """The lessons on text run on TensorFlow alone; guides, which start processes of their own, are further tests."""
    from crosscheck.lesson.backends import GUIDES, left_out

    for item in items:
        if item.path.suffix != ".ipynb":
            continue
        if reason := left_out(item.path.stem, BACKEND):
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.path.stem in GUIDES:
            item.add_marker(pytest.mark.further)


def in_order_of_cases(items):
    """What every layer promises is asked case by case, so that the checks of a case can share what they need."""
    places, cases = [], {}
    for place, item in enumerate(items):
        if case := re.search(r"/conformance/.*::.*\[(\w+/[\w-]+?)(?:-(?:mixed_)?b?float\d+)?\]$", item.nodeid):
            places.append(place)
            cases.setdefault(case[1], []).append(item)
    for place, item in zip(places, [item for group in cases.values() for item in group]):
        items[place] = item
