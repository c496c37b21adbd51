"""`python -m crosscheck.bench`: the time of each mechanism, and that of its matrix products alone."""

import argparse
import math
import textwrap
from typing import NamedTuple

from crosscheck.bench.growth import measurements as growth
from crosscheck.bench.growth.mechanisms import LENGTHS, MECHANISMS
from crosscheck.bench.processes import in_process
from crosscheck.bench.references import calls as references
from crosscheck.report.command import BACKENDS, Parser, WithoutStderr, as_program, prepare, refuse, writable, write

SECONDS = 1.5
TWINS = {
    "BigBirdAttention": "bigbird",
    "KernelAttention_elu": "elu",
    "KernelAttention_exp": "exp",
    "KernelAttention_causal_window": "causal-window",
}
"""{name of a mechanism here: its name in `crosscheck/bench/growth/mechanisms.py`}."""

DESCRIPTION = f"""\
Time every mechanism in float32, forward and with the gradient for its weights, as a graph and compiled by XLA. In turn with
it, time its floor: the matrix products that it cannot avoid, alone. The ratio of the two shows the cost of everything else.
Then measure how the mechanisms that should be linear grow from {LENGTHS[0]:,} to {LENGTHS[1]:,} tokens. Without names, also
time the NumPy references, each once."""

EXAMPLES = """\
examples:
  python -m crosscheck.bench                                      everything; takes some minutes
  python -m crosscheck.bench MultiHeadAttention Transformer       two mechanisms
  python -m crosscheck.bench MaskedLM --budget 10                 one mechanism, repeated for longer
  python -m crosscheck.bench --html build/bench.html              everything, also written as a page

exit status:
  0  everything was measured, whatever the times
  1  a measurement stopped with an error
  2  a name or an option is not known, or a file cannot be written"""


class Mechanism(NamedTuple):
    """One of `CASES` of `crosscheck/bench/cases/`."""

    name: str


class Reference(NamedTuple):
    """One of `CALLS` of `crosscheck/bench/references/`."""

    name: str


class WithNames(Parser):
    """Lists the mechanisms only in the help text, because importing them imports Keras and so fixes its backend."""

    def format_help(self):
        prepare(BACKENDS[0])
        with WithoutStderr():
            from crosscheck.bench.cases import CASES
        names = textwrap.fill(", ".join(CASES), 110, initial_indent="  ", subsequent_indent="  ")
        self.epilog = f"{EXAMPLES}\n\nmechanisms:\n{names}"
        return super().format_help()


def parse(argv):
    parser = WithNames("crosscheck.bench", description=DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mechanism, usually the name of its layer (default: all)")
    parser.add_backend()
    budget = f"seconds of repetition for each pass of a mechanism (default: {SECONDS})"
    parser.add_argument("--budget", type=duration, default=SECONDS, metavar="SECONDS", help=budget)
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the measurements as JSON")
    parser.add_argument("--html", type=writable, metavar="FILE", help="write tables and plot as an HTML page")
    return parser.parse(argv)


def duration(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, 0 or more. Received: {text}")
    return seconds


def growing(names):
    """The growth to measure: that of the named mechanisms that should be linear, or of all of these without names."""
    linear = [name for name, mechanism in MECHANISMS.items() if mechanism.is_linear]
    wanted = [TWINS[name] for name in TWINS if name in names] if names else linear
    return [growth.Probe(name, "gradient", length) for name in wanted for length in LENGTHS]


def measure(task, seconds):
    """The result of one task; {"error": …} if it failed. Only a `Reference` is measured in this process."""
    if isinstance(task, Mechanism):
        return in_process("crosscheck.bench.probe", task.name, seconds)
    if isinstance(task, Reference):
        return measure_reference(task.name)
    return growth.measure(task, seconds)


def measure_reference(name):
    """{line: seconds} of a file of `reference/`."""
    try:
        return dict(references.measure([name]))
    except Exception as error:  # the others can still be measured
        return {"error": f"{type(error).__name__}: {error}"}


def main(argv=None):
    """Run the command. Returns the exit status."""
    options = parse(argv)
    prepare(options.backend)
    with WithoutStderr():
        from crosscheck.bench import cases as bench_cases
        from crosscheck.bench import page as bench_page
        from crosscheck.bench import report as bench_report
        from crosscheck.report import progress

    try:
        names = growth.find(options.names, bench_cases.CASES)
    except KeyError as error:
        return refuse(error.args[0])
    files = [] if options.names else references.CALLS
    tasks = [*map(Mechanism, names), *growing(options.names), *map(Reference, files)]
    measured = dict(zip(tasks, progress.with_progress(tasks, lambda task: measure(task, options.budget))))
    report = bench_report.report(
        mechanisms={task.name: result for task, result in measured.items() if isinstance(task, Mechanism)},
        growths={task: result for task, result in measured.items() if isinstance(task, growth.Probe)},
        backend=options.backend,
        budget=options.budget,
        references={task.name: result for task, result in measured.items() if isinstance(task, Reference)},
    )
    bench_report.show(report)
    write(report, {bench_report.as_json: options.json, bench_page.as_html: options.html})
    return 1 if report["stopped"] else 0


if __name__ == "__main__":
    as_program(main)
