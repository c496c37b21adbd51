"""The options of the programs that train on several machines, and the bound of time that they keep."""

import argparse
import faulthandler
import os
import re
import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from crosscheck.report.command import Parser, natural, positive

EXAMPLES = """\
examples:
  python -m crosscheck.lesson.machines.{name}               on one device
  python -m crosscheck.lesson.machines.{name} --devices 2   on two virtual devices of this machine's processor
  python -m crosscheck.lesson.machines.{name} --addresses 10.0.0.1:2222 10.0.0.2:2222 --index 0
                       on two machines: the same on each, but for the index; 10.0.0.1 is the one with index 0

exit status:
  0  trained; the last line of the output is the report
  1  a step failed, another machine could not be reached, or the time is over
  2  an option is wrong, or the address of this machine cannot be used"""

LATER = 2
"""Seconds that the message has to come before the process ends without it."""

TRAINS = "crosscheck: the first step is done"
"""What a program says on stderr as soon as all machines have exchanged something."""

LOSS_OF_TIME = """\
crosscheck: not done after {seconds:g} s. Does each of the {count} machines run this program, with the same addresses and its own
index? Can they reach each other at these addresses, through every firewall? Received: --addresses {addresses} --index {index}"""


def parse(name, description, mistakes, argv):
    """The options of a program, or an end with a line that says what is wrong with them."""
    parser = Parser(f"crosscheck.lesson.machines.{name}", description=description, epilog=EXAMPLES.format(name=name))
    add = parser.add_argument
    add("--devices", type=positive, default=1, metavar="N", help="virtual devices of this machine's processor (default: 1)")
    add("--addresses", nargs="+", type=address, default=[], metavar="HOST:PORT", help="one for each machine, in order")
    add("--index", type=natural, default=0, metavar="I", help="which of the addresses is this machine's (default: 0)")
    add("--steps", type=positive, default=5, metavar="N", help="number of steps (default: 5)")
    add("--batch", type=positive, default=8, metavar="N", help="examples in a batch, on all devices together (default: 8)")
    add("--reverse", action="store_true", help="each batch in the opposite order: sums have another order, and no more")
    add("--dropout", type=rate, default=0.0, metavar="RATE", help="dropout in the encoder's block (default: 0)")
    add("--batch-norm", action="store_true", help="normalize with the statistics of the batch")
    told = "\n".join(f"  {mistake}: {said}" for mistake, said in mistakes.items())
    add(
        "--mistakes",
        nargs="+",
        choices=mistakes,
        default=["none"],
        help=f"train once with each of these (default: none):\n{told}",
    )
    add("--seconds", type=positive, default=120, metavar="N", help="end with an error after that time (default: 120)")
    options = parser.parse_args(argv)
    options.runs = [
        Run(options.batch, options.steps, options.reverse, options.dropout, options.batch_norm, mistake)
        for mistake in options.mistakes
    ]
    if options.index and not options.addresses:
        parser.error(f"--index needs --addresses. Received: --index {options.index}")
    if options.addresses and options.index >= len(options.addresses):
        count = len(options.addresses)
        parser.error(f"--index must be below {count}, the number of addresses. Received: --index {options.index}")
    if len(set(options.addresses)) < len(options.addresses):
        parser.error(f"--addresses must be different. Received: {' '.join(options.addresses)}")
    if options.addresses and (why := cannot_listen(options.addresses[options.index])):
        parser.error(f"this machine cannot use its own address, {options.addresses[options.index]}: {why}")
    return options


def say_that_it_trains():
    print(TRAINS, file=sys.stderr, flush=True)


def rate(text):
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0 and below 1. Received: {text}")
    return number


def address(text):
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[\w.-]+", host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"expected a name or number of a machine and a port, HOST:PORT. Received: {text}")
    return text


def cannot_listen(text):
    """Why no program can listen at the address, or None."""
    host, _, port = text.rpartition(":")
    try:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, int(port)))
            listening.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


@dataclass(frozen=True)
class Run:
    """A training. Attributes:

    batch: Examples in a batch, on all devices together.
    steps: Number of steps.
    reverse: Whether each batch is in the opposite order.
    dropout: Rate in the encoder's block.
    batch_norm: Whether to normalize with the statistics of the batch.
    mistake: One of a program's `MISTAKES`.
    """

    batch: int = 8
    steps: int = 5
    reverse: bool = False
    dropout: float = 0.0
    batch_norm: bool = False
    mistake: str = "none"


@contextmanager
def within(options):
    """Ends the process if what follows takes longer than it may: a machine may wait for another one for ever."""

    def end():
        machines = {"count": len(options.addresses), "addresses": " ".join(options.addresses), "index": options.index}
        text = LOSS_OF_TIME if options.addresses else "crosscheck: not done after {seconds:g} s."
        os.write(2, f"{text.format(seconds=options.seconds, **machines)}\n".encode())
        os._exit(1)

    timer = threading.Timer(options.seconds, end)
    timer.daemon = True
    timer.start()
    # TensorFlow waits for another machine without letting Python's threads run. This one needs no Python, and says where.
    faulthandler.dump_traceback_later(options.seconds + LATER, exit=True)
    if options.addresses:
        print(f"crosscheck: waits for the others of {len(options.addresses)} machines", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()
