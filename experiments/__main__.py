"""`python -m experiments [CHAPTER ...]`: make the runs behind the lessons' claims, and store what came out."""

import sys
from pathlib import Path

from crosscheck.report.command import Parser, as_program, check_known, natural, prepare, refuse

DESCRIPTION = """\
Make the training runs of experiments/CHAPTER.py that have not been made with the code as it is, and write
experiments/CHAPTER.json and the table of claims in experiments/README.md. Without names, every chapter."""

EXAMPLES = """\
examples:
  python -m experiments attention               all runs of one chapter; Ctrl-C stops, the same command goes on
  python -m experiments attention --only heads  the runs of one of its experiments
  python -m experiments --table                 write the table of claims from what is stored

exit status:
  0  every run was made
  1  a run failed, or was left out
  2  a name or an option is not known"""


def parse(argv):
    parser = Parser("experiments", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="chapter (default: every one with experiments)")
    parser.add_argument("--only", metavar="EXPERIMENT", help="one experiment of the chapter")
    parser.add_argument("--jobs", type=natural, default=2, help="processes (default: 2); 0 runs in this one, for a debugger")
    parser.add_argument("--table", action="store_true", help="make no runs; write experiments/README.md")
    parser.add_backend()
    return parser.parse(argv)


def main(argv=None):
    options = parse(argv)
    prepare(options.backend)
    from experiments.common import experiment, runner, table

    try:
        check_known(options.chapters, experiment.names(), "chapter with experiments")
        chapters = options.chapters or experiment.names()
        for chapter in chapters if options.only else ():
            check_known([options.only], experiment.experiments_of(chapter), f"experiment of {chapter}")
    except KeyError as error:
        return refuse(error.args[0])
    if options.table:
        table.write()
        return 0
    return max([make(chapter, options, runner) for chapter in chapters], default=0)


def make(chapter, options, runner):
    """Make the runs of one chapter on both backends. Returns the exit status."""
    errors = runner.make_runs(chapter, options.jobs, options.only)
    for error in errors:
        print(error, file=sys.stderr)
    if options.backend == "jax":
        return int(bool(errors))
    status = runner.make_runs_on_jax(chapter, options.jobs, options.only)
    if errors or status:
        return 1
    if missing := runner.store(chapter):
        print(f"{chapter}: {len(missing)} runs are missing, so {chapter}.json stays as it is", file=sys.stderr)
        return 1
    from experiments.common import table

    table.write()
    print(f"Written: {Path('experiments') / f'{chapter}.json'} and the table of claims")
    return 0


if __name__ == "__main__":
    as_program(main)
