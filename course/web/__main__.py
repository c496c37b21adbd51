"""`python -m course.web`: write the course as a website."""

import argparse
import os
import sys
import time
from pathlib import Path

from crosscheck.report.command import Parser, WithoutStderr, as_program, not_installed, refuse

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEEDED = ("sphinx", "myst_nb", "furo", "latex2mathml", "ziamath")

DESCRIPTION = """\
Write the course as a website: every lesson with its stored outputs, the projects, sources, API and plan. No notebook is
executed, and nothing is fetched. What is in build/compare.html, build/bench.html and build/browser becomes part of it."""

EXAMPLES = """\
examples:
  python -m course.web                    build/site
  python -m course.web --to public        another folder

exit status:
  0  the site was written
  1  a page is wrong: a link that leads nowhere, a formula that cannot be set
  2  an option is not known, the folder cannot be written, or a package is missing"""


def parse(argv):
    parser = Parser("course.web", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--to", metavar="FOLDER", type=folder, default="build/site", help="where to write it (default: build/site)"
    )
    return parser.parse_args(argv)


def folder(name):
    """A folder that is new, empty, or was written by this program; anything else is left alone."""
    path = Path(name)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder. Received a file: {name}")
    if path.is_dir() and any(path.iterdir()) and not (path / "pages.json").is_file():
        raise argparse.ArgumentTypeError(f"expected a new folder, or one that holds an earlier site. Received: {name}")
    return path


def main(argv=None):
    """Write the site. Returns the exit status."""
    target = parse(argv).to
    if missing := not_installed(*NEEDED):
        return refuse(f"the site needs packages that are not installed: {', '.join(missing)}. `make site` installs them")
    if not (ROOT / "notebooks").is_dir():
        return refuse(
            f"the lessons are not part of the installed package; write the site in a clone. Missing: {ROOT / 'notebooks'}"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["MPLBACKEND"] = "agg"
    start = time.perf_counter()
    with WithoutStderr():  # it imports every layer
        from course.web import build
    try:
        pages, untold = build.site(target.resolve(), ROOT / "build")
    except build.Wrong as error:
        print(f"course.web: {error}", file=sys.stderr)
        return 1
    if untold:
        print(f"{untold} figures have no text for readers who do not see them; `make notebooks` gives them one", file=sys.stderr)
    print(f"Written: {target}/index.html, {pages} pages in {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    as_program(main)
