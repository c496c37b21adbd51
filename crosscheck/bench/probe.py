"""The measurements of one mechanism in a separate process: `python -m crosscheck.bench.probe NAME SECONDS`.

The process prints {pass: {"layer": {mode: ms}, "floor": {mode: ms}, "MB": …, "rounds": …}}.
"""

import json
import sys
import time
from statistics import median

from crosscheck.bench.growth.probe import PASSES, forget_peak, peak

LEAST_ROUNDS = 5


def measure(name, seconds, size="bench"):
    """Both passes of a mechanism: memory, then times, each for as many `seconds` of repetition."""
    case = made(name, size)
    programs = layer_programs(case)
    memory = megabytes({what: by_mode[modes()[0]] for what, by_mode in programs.items()})
    return {what: measure_times(programs[what], floor_programs(case, what), seconds) | {"MB": memory[what]} for what in PASSES}


def made(name, size="bench"):
    """The case with its layer built. Symbolic inputs are used because real ones would leave memory allocated."""
    import keras

    from crosscheck.bench import layers as bench_layers
    from crosscheck.bench.case import SIZES
    from crosscheck.bench.cases import CASES

    case = CASES[name](SIZES[size], bench_layers)
    case.call(case.layer, *(keras.KerasTensor(x.shape, x.dtype.name) for x in case.inputs))
    return case


def megabytes(programs):
    """The peak memory of each pass of `programs`, above the memory in use before the first.

    Programs are graphs, because XLA would compile in its first call. The process keeps memory that the first pass freed and
    reuses it for the second, so both are measured from the same start.
    """
    before, memory = forget_peak(), {}
    for what, run in programs.items():
        run()
        memory[what] = (peak() - before) / 2**20
    return memory


def measure_times(layer, floor, seconds):
    """Median milliseconds of the programs of a layer and of its floor, both {mode: program}, run in turn."""
    programs = [*layer.values(), *floor.values()]
    for run in programs:
        run()  # compilation in the first call does not count
    times = in_turn(programs, seconds)
    values = iter([1e3 * median(column) for column in times])
    return {
        "layer": {mode: next(values) for mode in layer},
        "floor": {mode: next(values) for mode in floor},
        "rounds": len(times[0]),
    }


def modes():
    """The ways to compile a program; on JAX, only XLA."""
    import keras

    return ("xla",) if keras.backend.backend() == "jax" else ("graph", "xla")


def layer_programs(case):
    """{pass: {mode: function without arguments}}."""
    return {what: {mode: layer_program(case, what == "gradient", mode) for mode in modes()} for what in PASSES}


def floor_programs(case, what):
    """{mode: function without arguments}; empty if there are no products."""
    return {mode: floor_program(case.products, what == "gradient", mode) for mode in modes() if case.products}


def layer_program(case, with_gradient, mode):
    """A function without arguments that runs one pass through the layer."""
    from crosscheck.backends import compiled_step

    def run(*inputs):
        return case.call(case.layer, *inputs)

    return compiled_step(run, case.layer.variables, case.inputs, with_gradient, mode == "xla")


def floor_program(products, with_gradient, mode):
    """A function without arguments that computes only the products. A graph may run several at once, as for a layer.

    The matrices are arguments, and no two products share one, so that no product can be folded or shared.
    """
    import numpy as np

    from crosscheck.backends import compiled_step
    from crosscheck.bench.floors import products_of

    rng, matrices = np.random.default_rng(0), []
    for product in products_of(products, with_gradient):
        batch = (product.batch,) if product.batch > 1 else ()
        shapes = (*batch, product.rows, product.inner), (*batch, product.inner, product.columns)
        matrices += [rng.random(shape, "float32") for shape in shapes]
    return compiled_step(multiplied, (), matrices, xla=mode == "xla")


def multiplied(*matrices):
    """The product of each pair of `matrices`; all are returned, so that none is optimized away."""
    from keras import ops

    return [ops.matmul(left, right) for left, right in zip(matrices[::2], matrices[1::2])]


def in_turn(programs, seconds):
    """The seconds of each program in each round. Programs run in turn, so that drift affects all of them equally."""
    times, end = [[] for _ in programs], time.perf_counter() + seconds
    while len(times[0]) < LEAST_ROUNDS or time.perf_counter() < end:
        for run, column in zip(programs, times):
            start = time.perf_counter()
            run()
            column.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], float(sys.argv[2]))))
