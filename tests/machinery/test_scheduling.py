"""Which worker runs which test: what conftest.py adds to pytest-xdist."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = """
import os, pathlib, pytest, time

@pytest.mark.parametrize("number", range(12))
def test_a_number(number):
    with open(pathlib.Path(__file__).parent / "ran", "a") as file:
        file.write(f"{number} {os.getpid()}\\n")
    if number == 5:
        os._exit(1)
    if number == 11 and pathlib.Path("/proc").is_dir():
        time.sleep(3)
        earlier = {line.split()[1] for line in pathlib.Path(__file__).with_name("ran").read_text().splitlines()}
        assert sum(map(is_alive, earlier)) <= 3, "a worker that was replaced is still there"

def is_alive(process):
    try:
        return pathlib.Path("/proc", process, "statm").read_text().split()[0] != "0"
    except OSError:
        return False
"""


def test_a_worker_whose_memory_is_full_is_replaced_and_no_test_is_lost_or_repeated(tmp_path):
    text = (ROOT / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(re.sub(r"(?m)^ROOM = .*$", "ROOM = 1  # so each worker is full at once", text))
    (tmp_path / "test_numbers.py").write_text(TESTS)
    options = ["-n", "2", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", "-c", os.devnull, "--rootdir", "."]
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    found = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert "11 passed" in found.stdout and "1 failed" in found.stdout, found.stdout + found.stderr
    numbers, processes = zip(*(line.split() for line in (tmp_path / "ran").read_text().splitlines()))
    assert sorted(map(int, numbers)) == list(range(12))
    assert len(set(processes)) >= 4
