import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the cells of one notebook on one worker, in their order: a cell needs what the cells above it left in the kernel.

    All other tests go to whichever worker is free.
    """
    from xdist.scheduler import LoadScopeScheduling

    class NotebooksTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return file if file.endswith(".ipynb") else nodeid

    return NotebooksTogether(config, log)
