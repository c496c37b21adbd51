"""Stand-ins for packages that a browser does not have, so that what needs none of them can be imported there.

The runs of an experiment were made with Keras, but what came out of them is read and drawn with NumPy alone. The module of an
experiment has both. With a stand-in its models are classes that nobody can make an instance of.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ABSENT = {
    "keras": "Keras",
    "layers": "Keras",
    "tensorflow": "TensorFlow",
    "tensorflow_text": "TensorFlow",
    "jax": "JAX",
    "safetensors": "the weights of a real model",
    "sentencepiece": "SentencePiece",
    "rich": "a terminal",
    "jupytext": "a clone",
}
"""{package: what a reader would need for what it does}."""

STOOD_IN_FOR = ("keras", "layers", "safetensors")
"""Those that experiments and the module of real models import as they are imported themselves."""


class AbsentMeta(type):
    """The type of everything in a stand-in: it can be named, be inherited from and be a default value.

    To call it is an error, but for a module that is being imported: there it gives another one, as a default or a decorator.
    """

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return absent(f"{cls.__qualname__}.{name}")

    def __call__(cls, *arguments, **options):
        caller = sys._getframe(1)
        if caller.f_code.co_name == "<module>" and caller.f_globals["__name__"] != "__main__":
            return absent(f"{cls.__qualname__}()")
        raise RuntimeError(f"{cls.__qualname__} is not there in a browser: run the whole lesson where Keras is installed")


def absent(name):
    return AbsentMeta(name.rsplit(".", 1)[-1], (), {"__qualname__": name})


class StandIn(ModuleType):
    """A module that has every name, and submodules of every name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return absent(f"{self.__name__}.{name}")


class Finder(MetaPathFinder, Loader):
    """Finds the stand-ins."""

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in STOOD_IN_FOR else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        """A stand-in has no code."""


def stand_in():
    """From now on, importing a package of `STOOD_IN_FOR` gives a stand-in, even where the package is installed."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
