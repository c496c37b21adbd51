"""The bridge between `reference` and `layers`: the same numbers through both, and what came out."""

import importlib.util
import os
from pathlib import Path

# TensorFlow's C++ start-up lines would stand above every table and lesson.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def check_not_shadowed(name):
    """Raise an ImportError if `import name` finds something else than the package beside this one."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return  # whoever imports it hears so from Python
    found = Path(spec.origin or next(iter(spec.submodule_search_locations)))
    folder = found.parent if spec.origin and spec.submodule_search_locations else found
    own = Path(__file__).parent.with_name(name)
    if folder.resolve() != own.resolve():
        raise ImportError(
            f"crosscheck needs the package {name} in {own}, but Python finds {found} first. "
            "Rename that, or run from another folder.",
            name=name,
            path=str(found),
        )


for _name in ("layers", "reference"):
    check_not_shadowed(_name)
