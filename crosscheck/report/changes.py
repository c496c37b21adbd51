"""Which chapters the changes since a commit may concern, by what their cases import."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("crosscheck", "layers", "reference")
FOR_ALL = ("crosscheck/agreement.py", "crosscheck/report/comparison.py", "pyproject.toml", "requirements.txt")
"""Files that concern every chapter, whatever its cases import."""


def concerned(cases, revision):
    """Those of `cases` whose chapter needs a file that has changed since `revision`, be the change committed or not.

    Raises:
        ValueError: if git does not know the revision, or the project is not a git repository.
    """
    changed = changed_files(revision)
    names = {case.chapter for case in cases}
    wanted = {name for name in names if changed & needed(f"crosscheck/cases/{name}.py", changed)}
    return [case for case in cases if case.chapter in wanted]


def changed_files(revision):
    """Paths from the root, of files that differ from `revision` or that git does not track yet."""
    differing = git("diff", "--name-only", "-z", "--end-of-options", revision, "--")
    return set(differing) | set(git("ls-files", "--others", "--exclude-standard", "-z"))


def git(*arguments):
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or ["no reason given"]
        raise ValueError(f"--since needs a revision that git knows: {said[0]}")
    return [name for name in ran.stdout.split("\0") if name]


def needed(file, changed=frozenset()):
    """The files that running `file` needs: itself, all that it imports, and those of the `changed` that lie beside a part.

    A file that is no Python, such as a text that is read, is taken to be needed by every module of its folder.
    """
    found, waiting = set(FOR_ALL), [*FOR_ALL[:2], file]
    while waiting:
        name = waiting.pop()
        new = imported_by(name) - found
        found |= new | {name}
        waiting += new
    folders = {str(Path(name).parent) for name in found} - {"."}
    return found | {name for name in changed if not name.endswith(".py") and str(Path(name).parent) in folders}


@cache
def imported_by(name):
    """The project's files that a file imports; the packages around them count, but not what those import for others' sake."""
    found = set()
    if Path(name).name == "__init__.py" and len(Path(name).parts) == 2:
        return found  # the top of a room offers everything that is in it
    for module in imported_names(ROOT / name):
        found |= files_of(module)
    return found - {name}


@cache
def imported_names(path):
    """Dotted names of the modules that a file imports, and of what it imports from them, which may be modules too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module or '.'}.{alias.name}" for alias in node.names}
    return found


def files_of(module):
    """The files that importing `module`, or something from it, runs; none if it is not the project's."""
    parts = module.split(".")
    if parts[0] not in ROOMS:
        return set()
    stems = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    files = [f"{stem}{end}" for stem in stems for end in ("/__init__.py", ".py")]
    return {file for file in files if (ROOT / file).is_file()}
