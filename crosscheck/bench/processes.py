"""Measurements in separate processes, so that each has its own memory."""

import json
import os
import subprocess
import sys


def in_process(module, *arguments, **environment):
    """The last line that `python -m module …` prints, read as JSON; {"error": the last line of stderr} if it failed."""
    program = [sys.executable, "-m", module, *map(str, arguments)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(program, capture_output=True, text=True, env=os.environ | quiet | environment)
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
        return {"error": said[-1][:200]}
    return json.loads(ran.stdout.splitlines()[-1])
