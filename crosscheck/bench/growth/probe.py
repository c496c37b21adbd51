"""Measure time and memory once, in a process of its own: `python -m crosscheck.bench.growth.probe NAME PASS LENGTH SECONDS`.

The process prints {"ms": …, "MB": …}. It has to be a fresh one, because what an earlier measurement freed is still the
process's, and would be used again unseen.
"""

import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

PASSES = ("forward", "gradient")
SECONDS, LEAST_RUNS = 3.0, 3  # of repetition, of which the fastest counts

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(name, what, length, seconds=SECONDS):
    """Milliseconds of the fastest call, and the megabytes by which the first one exceeded what was there before it."""
    run = prepared(name, what, length)
    before = forget_peak()
    run()
    megabytes = (peak() - before) / 2**20
    times, end = [], time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"ms": 1e3 * min(times), "MB": megabytes}


def prepared(name, what, length):
    """A function without arguments that makes one pass through a mechanism, compiled for one example of this length."""
    import numpy as np

    from crosscheck.backends import compiled_step
    from crosscheck.bench.growth.mechanisms import HEADS, KEY_DIM, MECHANISMS

    mechanism = MECHANISMS[name]
    kind = getattr(import_module(f"layers.{mechanism.module}"), mechanism.layer)
    layer = kind(num_heads=HEADS, key_dim=KEY_DIM, **mechanism.arguments)
    x = np.random.default_rng(0).normal(size=(1, length, HEADS * KEY_DIM)).astype("float32")
    layer.build(x.shape, x.shape)
    return compiled_step(lambda x: layer(x, x, **mechanism.call), layer.variables, [x], what == "gradient", for_inputs=True)


def forget_peak():
    """Bytes in use now; where the system can, the peak starts again from here."""
    try:
        RESET.write_text("5")
        return field("VmRSS")
    except OSError:
        return peak()


def peak():
    """The most bytes that were in use at once."""
    if STATUS.exists():
        return field("VmHWM")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def field(name):
    """Bytes of a field of this process's status, which the kernel gives in kB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    name, what, length, *seconds = sys.argv[1:]
    print(json.dumps(measure(name, what, int(length), *map(float, seconds))))
