"""Build the package, install it into new environments, and run the smoke tests there: `python tests/smoke/run.py NAME ...`.

Each environment gets the wheel with all its extras, and pip may take no other versions than those of a requirements file. The
smoke tests run in a folder outside of the repository, on both backends.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / "build" / "environments"
PACKAGES = ("reference", "layers", "crosscheck")
BACKENDS = ("tensorflow", "jax")


class Environment(NamedTuple):
    python: str | None  # major and minor version; None for the Python that runs this
    requirements: str


CHECKS = {
    "wheel": Environment(None, "requirements.txt"),
    "oldest": Environment("3.11", "requirements-oldest.txt"),
    "newest-3.12": Environment("3.12", "requirements.txt"),
    "newest-3.13": Environment("3.13", "requirements.txt"),
}


def main(names):
    """Run the checks called `names`. Returns the exit status: 1 if one of them found something."""
    if strangers := sorted(set(names) - set(CHECKS)) or (not names and ["nothing"]):
        print(f"run.py takes some of {', '.join(CHECKS)}. Received: {', '.join(strangers)}", file=sys.stderr)
        return 2
    found = {name: find_python(CHECKS[name].python) for name in names}
    for name, python in found.items():
        if python is None:
            print(f"{name}: skipped, there is no Python {CHECKS[name].python} here", flush=True)
    if not any(found.values()):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        results = [check(name, python, wheel, Path(folder)) for name, python in found.items() if python]
    return max(results)


def find_python(version):
    """The path of a Python of this version, on the PATH or pyenv's; None if there is none."""
    if version in (None, "{}.{}".format(*sys.version_info)):
        return sys.executable
    name = f"python{version}"
    candidates = [shutil.which(name)]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        candidates += sorted(Path(root).glob(f"versions/{version}.*/bin/{name}")) if root else []
    return next((str(path) for path in candidates if path and is_python(path, version)), None)


def is_python(path, version):
    """Whether what is called so runs, which a shim may not, and can make environments."""
    program = "import sys, ensurepip; print('{}.{}'.format(*sys.version_info))"
    ran = subprocess.run([path, "-c", program], capture_output=True, text=True)
    return ran.returncode == 0 and ran.stdout.strip() == version


def build(folder):
    """The wheel, made from the sdist, made from the files that git knows."""
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():  # else it is deleted, which git has not been told yet
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    python = make_environment(folder / "builder", sys.executable)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    pip(python, "install", *needed)
    subprocess.run(
        [python, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')"],
        cwd=source,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (sdist,) = (source / "dist").glob("*.tar.gz")
    pip(python, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", sdist)
    (wheel,) = (folder / "dist").glob("*.whl")
    wanted = {name for name in files if name.startswith(tuple(f"{package}/" for package in PACKAGES)) and (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        missing = wanted - set(archive.namelist())
    with tarfile.open(sdist) as archive:
        missing |= wanted - {name.split("/", 1)[-1] for name in archive.getnames()}
    if missing:
        sys.exit(f"the wheel or the sdist lacks {', '.join(sorted(missing))}: pyproject.toml says what goes in")
    print(f"Built: {sdist.name} and {wheel.name}, with {len(wanted)} files of {', '.join(PACKAGES)}", flush=True)
    return wheel


def make_environment(folder, python):
    """A new environment in `folder`. Returns the path of its Python."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def pip(python, *arguments):
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True, cwd=python.parent)


def check(name, python, wheel, folder):
    """Run the smoke tests in a new environment, on both backends at once. Returns the exit status.

    An environment is large, so it is removed when all is well.
    """
    start = time.perf_counter()
    environment = make_environment(ENVIRONMENTS / name, python)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(project["optional-dependencies"])
    pip(
        environment,
        "install",
        "--no-compile",
        "--constraint",
        ROOT / CHECKS[name].requirements,
        f"{wheel}[{extras}]",
        pinned("pytest"),
    )
    installed = time.perf_counter()
    running = {backend: smoke_tests(environment, backend, folder / f"{name}-{backend}") for backend in BACKENDS}
    failed = False
    for backend, process in running.items():
        said = process.communicate()[0]
        failed |= process.returncode != 0
        ended = f"exit status {process.returncode}\n{said}" if process.returncode else said.strip().splitlines()[-1]
        print(f"{name} on {backend}: {ended}", flush=True)
    times = f"installed in {installed - start:.0f} s, tested in {time.perf_counter() - installed:.0f} s"
    print(f"{name}: {'FAILED' if failed else 'passed'}, {times}", flush=True)
    if not failed:
        shutil.rmtree(ENVIRONMENTS / name)
    return int(failed)


def pinned(package):
    """The requirement of `package` in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split()[0] for line in lines if line.startswith(f"{package}=="))


def smoke_tests(python, backend, folder):
    """The running tests, which see nothing of the repository."""
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("test_installed.py"), folder)
    own = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    command = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--durations=8", "test_installed.py"]
    return subprocess.Popen(
        command, cwd=folder, env=environment | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
