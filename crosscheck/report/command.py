"""What all commands share: how they read their options, start a backend, write files and end."""

import argparse
import difflib
import importlib.util
import logging
import os
import sys
import warnings
from pathlib import Path

BACKENDS = ("tensorflow", "jax")


class Parser(argparse.ArgumentParser):
    """Says in a line what is wrong, and knows which backend is asked for."""

    def __init__(self, prog, **options):
        super().__init__(prog, formatter_class=argparse.RawTextHelpFormatter, **options)

    def error(self, message):
        self.exit(2, f"crosscheck: {message}\n")

    def add_backend(self):
        self.add_argument("--backend", choices=BACKENDS, help="what Keras runs on (default: KERAS_BACKEND, or tensorflow)")

    def parse(self, argv):
        options = self.parse_intermixed_args(argv)
        options.backend = options.backend or os.environ.get("KERAS_BACKEND") or BACKENDS[0]
        if options.backend not in BACKENDS:
            self.error(f"KERAS_BACKEND must be one of {', '.join(BACKENDS)}. Received: {options.backend}")
        return options


def natural(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0, 1, 2, … Received: {text}")
    return int(text)


def positive(text):
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected 1, 2, 3, … Received: {text}")
    return int(text)


def not_installed(*modules):
    """Those of `modules` that cannot be imported here."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def writable(name):
    """The path, its folder made; tried before the work instead of after it."""
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {name}: {error.strerror}") from None
    return path


def write(report, files):
    """Write `report` in each form to its file, if it has one; `files` are {function that gives its text: path or None}."""
    for text, file in files.items():
        if file:
            file.write_text(text(report), encoding="utf-8")
            print(f"Written: {file}")


def refuse(why):
    print(f"crosscheck: {why}", file=sys.stderr)
    return 2


def prepare(backend):
    """Choose the backend, with float64 on JAX too, and keep what does not concern a reader out of the table."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["JAX_ENABLE_X64"] = "1"
    warnings.filterwarnings("ignore", message=".*np.object.*", category=FutureWarning)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


class WithoutStderr:
    """Throws away what TensorFlow's C++ code writes to stderr as it starts, which no setting of its own reaches."""

    def __enter__(self):
        sys.stderr.flush()
        self.kept = os.dup(2)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)

    def __exit__(self, *error):
        sys.stderr.flush()
        os.dup2(self.kept, 2)
        os.close(self.kept)


def as_program(main):
    """End the process with the exit status of a command's `main`."""
    sys.stdout.reconfigure(errors="replace")  # a terminal that has no ✗
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def check_known(names, known, kind, shown=None):
    """Raise a KeyError for the first of `names` that is not in `known`, with the nearest ones.

    Args:
        names, known: Strings.
        kind: What such a name is the name of.
        shown: The names to list if none is near; `known` unless given.
    """
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, cutoff=0.4) or shown or known
            raise KeyError(f"no {kind} is called {name!r}. The nearest: {', '.join(nearest)}")
