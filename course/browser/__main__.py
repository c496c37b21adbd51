"""`python -m course.browser`: the lessons' halves that need NumPy alone, as a JupyterLite site."""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat

from course.browser.lesson import in_browser, lessons
from crosscheck.lesson import make
from crosscheck.report.command import Parser, as_program, check_known, not_installed, refuse

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "browser"

DESCRIPTION = """\
Write a site with the half of each lesson that needs NumPy alone: every cell up to the section "What it does" that needs neither
Keras nor the weights of a real model. It runs in the reader's browser, which fetches Python (Pyodide) from outside; whoever
serves the site runs nothing. The address of a lesson is lab/index.html?path=NAME.ipynb."""

EXAMPLES = """\
examples:
  python -m course.browser                       all lessons, in build/browser
  python -m course.browser attention bert        two of them
  python -m http.server --directory build        then open /browser/lab/index.html?path=attention.ipynb there

exit status:
  0  the site was written
  1  JupyterLite could not be built
  2  a name or an option is not known, JupyterLite is not installed, or there are no lessons here"""


def main(argv=None):
    """Write the site. Returns the exit status."""
    parser = Parser("course.browser", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="lesson (default: all)")
    parser.add_argument("--output", type=Path, default=SITE, metavar="FOLDER", help="where (default: build/browser)")
    options = parser.parse_args(argv)
    if not make.FOLDER.is_dir():
        return refuse(f"the lessons are not part of the installed package; use a clone. Missing: {make.FOLDER}")
    try:
        check_known(options.names, lessons(), "lesson")
    except KeyError as error:
        return refuse(error.args[0])
    if options.output.exists() and not is_ours(options.output):
        return refuse(f"--output must be a new folder, or one with an older site. Received: {options.output}")
    if missing := not_installed("jupyterlite_core", "jupyterlite_pyodide_kernel"):
        return refuse(f"the site needs {' and '.join(missing)}: pip install --requirement course/requirements.txt")
    return build(options.names or lessons(), options.output.resolve())


def is_ours(folder):
    """Whether a folder may be replaced: it is empty, or a JupyterLite site."""
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / "jupyter-lite.json").is_file())


def build(names, output):
    """Write the site of these lessons to `output`. Returns the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = folder / "lessons"
        contents.mkdir()
        for lesson in names:
            nbformat.write(in_browser(lesson), contents / f"{lesson}.ipynb")
        commands = [wheel_command(folder), site_command(folder, contents)]
        for command in commands:
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if ran.returncode:
                print(f"{' '.join(map(str, command))}\n{ran.stdout}{ran.stderr}", file=sys.stderr)
                return 1
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "site", output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"Written: {output}, {len(names)} lessons, {size / 1e6:.0f} MB")
    return 0


def wheel_command(folder):
    """What makes the wheel of our packages, from a copy, so that nothing of an earlier build gets in."""
    source = folder / "source"
    source.mkdir()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]["find"]
    for pattern in packages["include"]:
        shutil.copytree(ROOT / pattern.rstrip("*"), source / pattern.rstrip("*"), ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder / "wheels"), str(source)]


def site_command(folder, contents):
    """What builds the site. Of the extensions of JupyterLab that are installed here, it takes the kernel alone."""
    files = importlib.metadata.files("jupyterlite-pyodide-kernel")
    kernel = (
        next(file for file in files if file.name == "package.json" and "labextensions" in file.parts).locate().resolve().parent
    )
    command = [sys.executable, "-m", "jupyterlite_core", "build", "--apps", "lab", "--no-sourcemaps", "--ignore-sys-prefix"]
    command += ["--no-unused-shared-packages", "--lite-dir", str(folder / "lite"), "--output-dir", str(folder / "site")]
    command += [f"--LiteBuildConfig.federated_extensions={kernel}"]
    return [*command, "--contents", str(contents), "--piplite-wheels", str(folder / "wheels")]


if __name__ == "__main__":
    as_program(main)
