"""`python -m crosscheck`: every layer against its reference."""

import argparse
import os
import sys
import warnings
from pathlib import Path

DTYPES = ("float64", "float32", "bfloat16", "float16")

DESCRIPTION = """\
Compare production layers with their NumPy references on the same numbers: outputs in each dtype, gradients, and what the
XLA compiler makes of both. Prints a table; can also write it as JSON and as a web page."""

EXAMPLES = """\
examples:
  python -m crosscheck                                  everything
  python -m crosscheck attention masked_softmax         two chapters
  python -m crosscheck attention/masked --dtype float32 one case in one dtype
  python -m crosscheck attention --backend jax          on JAX

exit status: 0 all agree; 1 something is out of tolerance; 2 a name or an option that does not exist"""


def parse(argv):
    parser = argparse.ArgumentParser(
        "crosscheck", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="chapter or case (default: all)")
    parser.add_argument(
        "--dtype", action="append", choices=DTYPES, help="only this one; may be repeated (default: all that a case has)"
    )
    parser.add_argument(
        "--backend", choices=("tensorflow", "jax"), help="what Keras runs on (default: KERAS_BACKEND or tensorflow)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the numbers compared (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write them as a page")
    return parser.parse_intermixed_args(argv)


def main(argv=None):
    """Returns the exit status."""
    options = parse(argv)
    prepare_backend(options.backend or os.environ.get("KERAS_BACKEND", "tensorflow"))

    # Only now: importing Keras fixes the backend.
    from crosscheck import compare, page, table
    from crosscheck.catalogue import find_cases

    try:
        cases = find_cases(options.names)
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    results = table.with_progress(cases, lambda case: compare.measure(case, options.dtype or DTYPES, options.seed))
    report = compare.report(results, options.seed)
    table.show(report)
    for file, text in ((options.json, compare.as_json), (options.html, page.as_html)):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text(report), encoding="utf-8")
            print(f"Written: {file}")
    return 0 if report["agree"] else 1


def prepare_backend(backend):
    """Choose the backend, with float64 on it, and keep its start-up lines out of the table."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["JAX_ENABLE_X64"] = "1"
    warnings.filterwarnings("ignore", category=FutureWarning)
    if backend == "tensorflow":
        with WithoutStderr():
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            tf.zeros(1)


class WithoutStderr:
    """Throws away what C++ code writes to stderr, which no Python setting reaches."""

    def __enter__(self):
        sys.stderr.flush()
        self.kept = os.dup(2)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)

    def __exit__(self, *error):
        os.dup2(self.kept, 2)
        os.close(self.kept)


if __name__ == "__main__":
    sys.exit(main())
