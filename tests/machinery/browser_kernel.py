"""Runs notebooks as a browser would: without the packages that it does not have. A program, given the notebooks' paths.

It prints a line of JSON for each: its name, the seconds of the processor, how many code cells ran, and what went wrong.
"""

import ast
import asyncio
import inspect
import json
import linecache
import sys
import time
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

PRESENT = {"numpy", "matplotlib", "jaxtyping", "scipy"}


class Browser(PathFinder):
    """Finds no package that requirements.txt has, but for those that were asked for."""

    absent = frozenset()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in cls.absent else super().find_spec(name, path, target)


class Piplite(ModuleType):
    """Notes what is asked for."""

    def __init__(self):
        super().__init__("piplite")
        self.asked = []

    async def install(self, packages, deps=True):
        self.asked.append((packages, deps))


def run(path):
    """Run the code cells of a notebook in a namespace of their own. Returns how many."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace = {"__name__": "__main__"}
    for place, cell in enumerate(cells, 1):
        source, file = "".join(cell["source"]), f"<{path.stem}, code cell {place}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        code = compile(source, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    return len(cells)


def main(requirements, *paths):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    listed = (line.split("==")[0] for line in Path(requirements).read_text().splitlines() if "==" in line)
    Browser.absent = frozenset(name.replace("-", "_") for name in listed) - PRESENT
    sys.meta_path[:] = [Browser if finder is PathFinder else finder for finder in sys.meta_path]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder)]
    for path in map(Path, paths):
        sys.modules["piplite"] = piplite = Piplite()
        start, found = time.process_time(), {"name": path.stem, "error": None, "cells": 0}
        try:
            found["cells"] = run(path)
        except BaseException:
            found["error"] = traceback.format_exc()
        finally:
            plt.close("all")
        found |= {"asked": piplite.asked, "seconds": round(time.process_time() - start, 1)}
        print(json.dumps(found), flush=True, file=sys.__stderr__)


if __name__ == "__main__":
    main(*sys.argv[1:])
