"""`python -m crosscheck`: every layer against its reference."""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

DTYPES = ("float64", "float32", "bfloat16", "float16")
BACKENDS = ("tensorflow", "jax")

DESCRIPTION = """\
Give production layers and their NumPy references the same numbers and compare what comes out: the outputs in each dtype,
the gradients with the slope of the reference, and what XLA compiles with what runs step by step. The result is a table;
it can be written as JSON and as a web page too."""

EXAMPLES = """\
examples:
  python -m crosscheck                                    everything
  python -m crosscheck attention masked_softmax           two chapters
  python -m crosscheck attention/masked --dtype float32   one case, outputs in one dtype
  python -m crosscheck attention --backend jax            on JAX
  python -m crosscheck --html build/compare.html          everything, and a page of it

exit status:
  0  everything that was measured agrees
  1  something is out of tolerance, or a case stopped with an error
  2  a name or an option is not known, or a file cannot be written"""


class Parser(argparse.ArgumentParser):
    """Says in a line what is wrong, and knows which backend is asked for."""

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


def parse(argv):
    parser = Parser("crosscheck", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="chapter, or chapter/case (default: all)")
    one_of = ", ".join(DTYPES)
    parser.add_argument(
        "--dtype",
        action="append",
        choices=DTYPES,
        metavar="DTYPE",
        help=f"{one_of}; may be repeated (default: every one that a case has)",
    )
    parser.add_backend()
    parser.add_argument("--seed", type=natural, default=0, help="seed of weights and inputs (default: 0)")
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--html", type=writable, metavar="FILE", help="write them as a page")
    return parser.parse(argv)


def natural(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0, 1, 2, … Received: {text}")
    return int(text)


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


def main(argv=None):
    """Returns the exit status."""
    options = parse(argv)
    prepare(options.backend)

    # Only now: importing Keras fixes the backend.
    with WithoutStderr():
        from crosscheck import catalogue, compare, page, table

        catalogue.chapters()

    try:
        cases = catalogue.find_cases(options.names)
    except KeyError as error:
        return refuse(error.args[0])
    if compare.backend() != options.backend:
        return refuse(f"Keras already runs on {compare.backend()} in this process, so it cannot run on {options.backend}")
    results = table.with_progress(cases, lambda case: compare.measure(case, options.dtype or DTYPES, options.seed))
    report = compare.report(results, options.seed)
    table.show(report)
    write(report, {compare.as_json: options.json, page.as_html: options.html})
    return 0 if report["agree"] else 1


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


if __name__ == "__main__":
    as_program(main)
