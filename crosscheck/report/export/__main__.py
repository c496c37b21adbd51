"""`python -m crosscheck.report.export [NAME ...] [--check]`: measure what can be exported, and write or check EXPORT.md."""

import json
import sys

from crosscheck.report.command import Parser, as_program, check_known, refuse

DESCRIPTION = """\
Export a case of each public class, and some whole models, in every format that Keras and JAX offer; run the results, and compare
their numbers with those of Keras. Without names, write EXPORT.md. All together take some minutes of processor time.

ONNX needs packages that are not among the requirements:
  pip install onnx tf2onnx onnxruntime     for the column ONNX
  pip install onnx jax2onnx onnxruntime    for the column ONNX from JAX
Without them these columns say "not tried here"."""

EXAMPLES = """\
examples:
  python -m crosscheck.report.export                        write EXPORT.md
  python -m crosscheck.report.export MaskedLM BertEncoder    print two rows
  python -m crosscheck.report.export --check                 compare EXPORT.md with what is measured now
  python -m crosscheck.report.export MaskedLM --check        compare one row

exit status:
  0  the rows were measured; with --check, the page says the same
  1  the page says something else
  2  a name or an option is not known, or EXPORT.md is not here"""


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    from crosscheck.report.export import table  # only now: it imports every layer

    if argv[:1] == [table.ON]:
        return measure(*argv[1:])
    parser = Parser("crosscheck.report.export", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="class or whole model (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with EXPORT.md instead of writing it")
    options = parser.parse_intermixed_args(argv)
    try:
        check_known(options.names, table.names(), "class or whole model")
    except KeyError as error:
        return refuse(error.args[0])
    if options.check and not table.PAGE.is_file():
        return refuse(f"EXPORT.md is not part of the installed package; check it in a clone. Missing: {table.PAGE}")
    found = {}
    for name, row in table.rows(options.names or table.names()):
        found[name] = row
        print(table.line_of(name, row), flush=True)
    print(table.versions(), end="")
    say_what_is_missing()
    if options.check:
        complaints = table.differences(table.PAGE.read_text(encoding="utf-8"), found)
        print("\n".join(complaints) or "EXPORT.md says the same.")
        return 1 if complaints else 0
    if not options.names:
        table.PAGE.write_text(table.page(found), encoding="utf-8")
        print(f"Written: {table.PAGE.name}")
    return 0


def measure(backend, *names):
    """One JSON line for each cell. The command calls itself so, because a converter may end the process."""
    from crosscheck.report.export import table

    for name in names:
        for column, verdict in table.measured(backend, name):
            print(json.dumps([name, column, verdict]), flush=True)
    return 0


def say_what_is_missing():
    from crosscheck.report.export.onnx_programs import missing

    for backend, column in (("tensorflow", "ONNX"), ("jax", "ONNX from JAX")):
        if packages := missing(backend):
            print(f"{column}: not tried here. To try it: pip install {' '.join(packages)}", file=sys.stderr)


if __name__ == "__main__":
    as_program(main)
