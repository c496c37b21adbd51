"""`python -m crosscheck`: every layer against its reference."""

import argparse

from crosscheck.report.command import Parser, WithoutStderr, as_program, natural, prepare, refuse, writable, write

DTYPES = ("float64", "float32", "bfloat16", "float16")

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


def main(argv=None):
    """Returns the exit status."""
    options = parse(argv)
    prepare(options.backend)

    # Only now: importing Keras fixes the backend.
    with WithoutStderr():
        from crosscheck import catalogue
        from crosscheck.report import comparison, page, table

        catalogue.chapters()

    try:
        cases = catalogue.find_cases(options.names)
    except KeyError as error:
        return refuse(error.args[0])
    if comparison.backend() != options.backend:
        return refuse(f"Keras already runs on {comparison.backend()} in this process, so it cannot run on {options.backend}")
    results = table.with_progress(cases, lambda case: comparison.measure(case, options.dtype or DTYPES, options.seed))
    report = comparison.report(results, options.seed)
    table.show(report)
    write(report, {comparison.as_json: options.json, page.as_html: options.html})
    return 0 if report["agree"] else 1


if __name__ == "__main__":
    as_program(main)
