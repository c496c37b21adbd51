"""Start the programs of several machines on this one, within a bound of time, and leave none of their processes behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

GRACE = 30
"""Seconds that the other processes have to end by themselves, and to say why, after one has failed."""

AGAIN = 3
"""How often processes are started at most, if the port that was free has been taken meanwhile by another program."""


class Failure(Exception):
    """Processes did not end well. The message says how each ended, and what it printed last."""


def launch(program, *options, processes=1, seconds=120, addresses=None, environment=None):
    """What each process of a program of `crosscheck.lesson.machines` reports.

    Args:
        program: "on_tensorflow" or "on_jax".
        options: Further options of the program.
        processes: How many machines to stand in for. One gets no address.
        seconds: How long all of them may take together; after that they are ended.
        addresses: One for each process, instead of free ones on the loopback interface.
        environment: {variable: value}, beside those of this process.

    Returns:
        For each process, {mistake: report}.

    Raises:
        Failure: if a process ends with an error, or is not done in time.
    """
    command = [sys.executable, "-m", f"crosscheck.lesson.machines.{program}", "--seconds", str(seconds), *map(str, options)]
    for attempt in range(AGAIN):
        ports = free_addresses(processes) if addresses is None else list(addresses)
        several = [["--addresses", *ports, "--index", str(index)] for index in range(processes)] if processes > 1 else [[]]
        try:
            return [json.loads(text.splitlines()[-1]) for text in run([command + own for own in several], seconds, environment)]
        except Failure as failure:
            if addresses is not None or "cannot use its own address" not in str(failure) or attempt == AGAIN - 1:
                raise


def free_addresses(count):
    """Addresses on the loopback interface at which nothing listens."""
    with ExitStack() as open_sockets:
        found = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in found]


def run(commands, seconds, environment=None):
    """The outputs of commands that run at the same time.

    Each has a group of processes of its own, which is ended in any case, with whatever the command has started.

    Raises:
        Failure: if one ends with an error, or is not done in time.
    """
    with ExitStack() as stack:
        files = [[stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)] for _ in commands]
        started = []
        stack.callback(end, started)
        settings = os.environ | {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"} | (environment or {})
        for command, (output, errors) in zip(commands, files):
            pipes = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": errors, "start_new_session": True}
            started.append(subprocess.Popen(command, env=settings, **pipes))
        is_done = wait(started, time.monotonic() + seconds)
        statuses = [process.poll() for process in started]
        end(started)
        outputs, errors = ([read(file) for file in kind] for kind in zip(*files))
        if any(statuses) or not is_done:
            raise Failure(told(statuses, outputs, errors, seconds))
        return outputs


def wait(started, until):
    """Wait for all processes to end; if one fails, `GRACE` seconds for the others. Returns whether all have ended."""
    has_failed = False
    while None in (statuses := [process.poll() for process in started]):
        if any(statuses) and not has_failed:
            until, has_failed = min(until, time.monotonic() + GRACE), True
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def end(started):
    """End what is left of the processes and of what they have started."""
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing is left
        process.wait()


def read(file):
    file.seek(0)
    return file.read()


def told(statuses, outputs, errors, seconds):
    """How each process ended, and the last of what it printed."""
    parts = [f"not all of {len(statuses)} processes ended well within {seconds:g} s"]
    for index, (status, output, error) in enumerate(zip(statuses, outputs, errors)):
        if status is None:
            ended = "had to be ended"
        else:
            ended = f"ended by signal {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        parts.append(f"process {index} {ended}; the last that it printed:\n{(output + error).strip()[-1500:]}")
    return "\n".join(parts)
