"""Processes that stand in for machines end in time, with whatever they have started, and what they printed is told."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosscheck.lesson.machines import arguments, launch, on_jax, on_tensorflow


def python(text):
    return [sys.executable, "-c", text]


def is_running(number):
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone(number, seconds=10):
    until = time.monotonic() + seconds
    while is_running(number) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_running(number)


HANGS = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
pathlib.Path({file!r}).write_text(str(child.pid))
print("I wait for ever", flush=True)
time.sleep({seconds})
"""


def test_outputs_come_in_the_order_of_the_commands():
    texts = ["import time; time.sleep(0.5); print('first')", "print('second')"]
    assert launch.run([python(text) for text in texts], seconds=60) == ["first\n", "second\n"]


def test_a_process_that_hangs_is_ended_with_its_children_and_what_it_printed_is_told(tmp_path):
    file = tmp_path / "a child"
    with pytest.raises(launch.Failure) as failure:
        launch.run([python(HANGS.format(file=str(file), seconds=1000)), python("print('done')")], seconds=5)
    assert "process 0 had to be ended" in str(failure.value) and "I wait for ever" in str(failure.value)
    assert "process 1 ended with exit status 0" in str(failure.value)
    assert gone(int(file.read_text()))


def test_a_child_that_outlives_a_process_that_ended_well_is_ended(tmp_path):
    file = tmp_path / "a child"
    launch.run([python(HANGS.format(file=str(file), seconds=0))], seconds=60)
    assert gone(int(file.read_text()))


def test_if_one_process_fails_the_others_have_some_time_to_say_why(monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 8)
    fails = "import sys; sys.exit('my disk is full')"
    waits = "import time; print('I wait', flush=True); time.sleep(1000)"
    notices = "import sys, time; time.sleep(1); sys.exit('the other one is gone')"
    with pytest.raises(launch.Failure) as failure:
        launch.run([python(fails), python(waits), python(notices)], seconds=300)
    for part in ("my disk is full", "process 1 had to be ended", "I wait", "the other one is gone", "exit status 1"):
        assert part in str(failure.value), failure.value


def test_a_process_that_is_ended_by_a_signal_is_told():
    with pytest.raises(launch.Failure, match="process 0 ended by signal SIGKILL"):
        launch.run([python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")], seconds=60)


@pytest.mark.parametrize("program", [on_tensorflow, on_jax], ids=["on_tensorflow", "on_jax"])
def test_a_port_that_is_taken_is_told_at_once(program, capsys):
    with socket.socket() as another:
        another.bind(("127.0.0.1", 0))
        another.listen()
        taken = f"127.0.0.1:{another.getsockname()[1]}"
        with pytest.raises(SystemExit) as ended:
            program.main(["--addresses", taken, "127.0.0.1:1", "--index", "0"])
    assert ended.value.code == 2
    assert f"this machine cannot use its own address, {taken}: Address already in use" in capsys.readouterr().err


def test_a_port_that_is_taken_meanwhile_is_chosen_anew(monkeypatch):
    asked = []

    def run(commands, seconds, environment):
        asked.append(commands)
        if len(asked) < 3:
            raise launch.Failure("crosscheck: this machine cannot use its own address, 127.0.0.1:1")
        return ['noise\n{"none": 1}\n'] * 2

    monkeypatch.setattr(launch, "run", run)
    assert launch.launch("on_jax", processes=2) == [{"none": 1}] * 2
    assert asked[0] != asked[1]


def test_free_addresses_are_different_and_free():
    found = launch.free_addresses(5)
    assert len(set(found)) == 5
    assert [arguments.cannot_listen(each) for each in found] == [None] * 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--addresses", "here"], "expected a name or number of a machine and a port, HOST:PORT. Received: here"),
        (["--addresses", "here:0"], "HOST:PORT. Received: here:0"),
        (["--addresses", "here:70000"], "HOST:PORT. Received: here:70000"),
        (["--addresses", "a:1", "a:1"], "--addresses must be different. Received: a:1 a:1"),
        (["--addresses", "a:1", "b:1", "--index", "2"], "--index must be below 2, the number of addresses. Received: --index 2"),
        (["--addresses", "192.0.2.77:4000", "b:1"], "this machine cannot use its own address, 192.0.2.77:4000"),
        (["--index", "-1"], "expected 0, 1, 2, … Received: -1"),
        (["--steps", "0"], "expected 1, 2, 3, … Received: 0"),
        (["--dropout", "1"], "expected a number of at least 0 and below 1. Received: 1"),
        (["--dropout", "much"], "Received: much"),
        (["--mistakes", "many"], "invalid choice: 'many'"),
        (["--index", "1"], "--index needs --addresses. Received: --index 1"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(given, said, capsys):
    with pytest.raises(SystemExit) as ended:
        on_jax.main(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_mistakes_and_devices_that_a_program_cannot_use_are_refused(capsys):
    assert on_jax.main(["--mistakes", "state"]) == 2
    assert "--mistakes state needs several --addresses. Received: 0" in capsys.readouterr().err
    addresses = launch.free_addresses(2)
    assert on_tensorflow.main(["--devices", "2", "--addresses", *addresses]) == 2
    assert "--devices is for one machine alone" in capsys.readouterr().err


@pytest.mark.parametrize("program", [on_tensorflow, on_jax], ids=["on_tensorflow", "on_jax"])
def test_help_says_how_to_use_several_machines(program, said_by_help):
    said = said_by_help(program.main)
    assert all(part in said for part in ("examples:", "exit status:", "10.0.0.1:2222", *program.MISTAKES)), said


def test_a_program_ends_by_itself_when_its_time_is_over():
    waits = """
import time
from types import SimpleNamespace
from crosscheck.lesson.machines.arguments import within
with within(SimpleNamespace(seconds=1, addresses=["a:1", "b:2"], index=1)):
    time.sleep(1000)
"""
    ran = subprocess.run(python(waits), capture_output=True, text=True, env=os.environ, timeout=200)
    assert ran.returncode == 1
    assert "not done after 1 s" in ran.stderr and "--addresses a:1 b:2 --index 1" in ran.stderr


@pytest.mark.further
@pytest.mark.parametrize("program", ["on_tensorflow", "on_jax"])
def test_a_machine_whose_partner_never_comes_ends_by_itself(program):
    own, other = launch.free_addresses(2)
    command = [sys.executable, "-m", f"crosscheck.lesson.machines.{program}", "--seconds", "25", "--addresses", own, other]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1
    assert "waits for the others of 2 machines" in ran.stderr
    assert "not done after 25 s. Does each of the 2" in ran.stderr or "Timeout (0:00:27)!" in ran.stderr, ran.stderr[-2000:]
