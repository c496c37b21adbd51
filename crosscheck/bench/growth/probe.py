"""Measure time and memory once, in a separate process: `python -m crosscheck.bench.growth.probe NAME PASS LENGTH SECONDS`.

The process prints {"ms": …, "MB": …}. It must be a new one, because a process keeps memory that an earlier
measurement freed, and its reuse would not be counted.
"""

import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

PASSES = ("forward", "gradient")
SECONDS, LEAST_RUNS = 3.0, 3  # seconds of repetition, and the least number of runs; the fastest run counts

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(name, what, length, seconds=SECONDS):
    """The milliseconds of the fastest call, and the peak megabytes of the first call above the memory in use before it."""
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
    """A function without arguments that runs one pass through a mechanism, compiled for one example of this length."""
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
    """The bytes in use now. If the system supports it, the peak is reset to this value."""
    try:
        RESET.write_text("5")
        return field("VmRSS")
    except OSError:
        return peak()


def peak():
    """The peak number of bytes in use."""
    if STATUS.exists():
        return field("VmHWM")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def field(name):
    """A field of this process's status in bytes; the kernel reports kB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    name, what, length, *seconds = sys.argv[1:]
    print(json.dumps(measure(name, what, int(length), *map(float, seconds))))
