"""`python -m crosscheck`: every layer against its reference."""

import os
import time

from crosscheck.report import workers
from crosscheck.report.command import Parser, WithoutStderr, as_program, natural, prepare, refuse, writable, write

DTYPES = ("float64", "float32", "bfloat16", "float16")

DESCRIPTION = """\
Give production layers and their NumPy references the same numbers and compare what comes out: the outputs in each dtype,
and the gradients with the slope of the reference; with --xla also what XLA compiles with what runs step by step. Each
chapter is a line of the table as soon as it is measured. The results can be written as JSON and as a web page too."""

EXAMPLES = """\
examples:
  python -m crosscheck                                    everything but XLA
  python -m crosscheck --xla                              everything
  python -m crosscheck attention masked_softmax           two chapters
  python -m crosscheck attention --cases                  a line for each case
  python -m crosscheck attention/masked --dtype float32   one case, outputs in one dtype
  python -m crosscheck attention --backend jax            on JAX
  python -m crosscheck --since HEAD~1                     what the last commit and the changes after it may have changed
  python -m crosscheck --html build/compare.html          everything but XLA, and a page of it

exit status:
  0    everything that was measured agrees
  1    something is out of tolerance, or a case stopped with an error
  2    a name or an option is not known, or a file cannot be written
  130  stopped by Ctrl-C; what was measured until then is shown and written"""


def parse(argv):
    parser = Parser("crosscheck", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="chapter, or chapter/case (default: all)")
    one_of = ", ".join(DTYPES)
    parser.add_argument(
        "--dtype",
        action="append",
        choices=DTYPES,
        metavar="DTYPE",
        help=f"{one_of}; may be repeated (default: every one that a case has)",
    )
    parser.add_argument("--xla", action="store_true", help="compile every case with XLA too, which takes twice as long again")
    parser.add_argument("--since", metavar="REV", help="only chapters that changes since the git revision REV may concern")
    parser.add_argument("--cases", action="store_true", help="show a line for each case")
    parser.add_backend()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = f"worker processes (default: one a core, {cores}); 0: none, so that a debugger sees the layers"
    parser.add_argument("--jobs", type=natural, default=cores, help=jobs)
    parser.add_argument("--seed", type=natural, default=0, help="seed of weights and inputs (default: 0)")
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--html", type=writable, metavar="FILE", help="write them as a page")
    return parser.parse(argv)


def main(argv=None):
    """Returns the exit status."""
    options, start = parse(argv), time.perf_counter()
    prepare(options.backend)
    if options.jobs:
        workers.context_of_workers()  # it imports while this process does the same

    # Only now: importing Keras fixes the backend.
    with WithoutStderr():
        from crosscheck import catalogue
        from crosscheck.report import changes, comparison, page

        catalogue.chapters()

    if comparison.backend() != options.backend:
        return refuse(f"Keras already runs on {comparison.backend()} in this process, so it cannot run on {options.backend}")
    try:
        cases = catalogue.find_cases(options.names)
        if options.since:
            cases = changes.concerned(cases, options.since)
    except (KeyError, ValueError) as error:
        return refuse(error.args[0])
    results, processes, stopped = compare(cases, options)
    report = comparison.report(
        results,
        options.seed,
        asked=len(cases),
        jobs=options.jobs,
        seconds=round(time.perf_counter() - start, 1),
        processes=processes,
    )
    table_of(options).closing(report)
    write(report, {comparison.as_json: options.json, page.as_html: options.html})
    return 130 if stopped else 0 if report["agree"] else 1


def table_of(options):
    from rich.console import Console

    from crosscheck.report.table import Table

    measured = [dtype for dtype in DTYPES if dtype in (options.dtype or DTYPES)] + ["gradient"] + ["xla"] * options.xla
    return Table(Console(), measured, options.cases)


def compare(cases, options):
    """Measure the cases and show each chapter as it is done.

    Returns:
        The results in reading order, what each worker process used, and whether Ctrl-C ended it before all were measured.
    """
    from crosscheck.report import comparison
    from crosscheck.report.progress import progress

    table, results, processes = table_of(options), [], []
    large = {case.name for case in cases if case.large}
    tasks = [(case.name, options.dtype or DTYPES, options.seed, options.xla) for case in cases]
    table.heading()
    with progress(len(tasks), table.console) as (watch, advance):
        found = workers.run(
            tasks,
            "crosscheck.report.comparison:measure_named",
            min(options.jobs, len(tasks)),
            watch=lambda running: watch([(task[0], seconds) for task, seconds in running]),
            usages=processes,
            is_large=lambda task: task[0] in large,
        )
        done = []
        try:
            for case, following, (_, result) in zip(cases, [*cases[1:], None], found):
                done.append(comparison.died(case, result) if isinstance(result, workers.Death) else result)
                results.append(done[-1])
                advance()
                if following is None or following.chapter != case.chapter:
                    table.chapter(done)
                    done = []
        except KeyboardInterrupt:
            if done:
                table.chapter(done)
            return results, processes, True
        finally:
            found.close()
    return results, processes, False


if __name__ == "__main__":
    as_program(main)
