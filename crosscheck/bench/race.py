"""`python -m crosscheck.bench.race`: our layers against those of the Model Garden, which only this file imports."""

from importlib.metadata import version
from statistics import geometric_mean, median
from types import SimpleNamespace

from crosscheck.bench.__main__ import duration
from crosscheck.bench.growth import measurements as growth
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.probe import in_turn, layer_programs
from crosscheck.report.command import Parser, WithoutStderr, as_program, prepare, refuse, writable, write

DESCRIPTION = """\
Race every mechanism of `python -m crosscheck.bench` against the Model Garden's layer of the same name: on TensorFlow, in one
process, with alternating runs, in float32, forward and with the gradient for the weights, each side as a graph and compiled
by XLA. The ratio is the median time of their faster program divided by that of our faster one: above 1, ours is faster."""

RECIPE = """\
  python -m venv build/garden && . build/garden/bin/activate
  pip install -r requirements.txt
  pip install tf-keras==2.21.0
  pip install --no-deps tf-models-official==2.20.0
  pip install gin-config absl-py psutil pyyaml scipy six"""

EXAMPLES = """\
examples:
  python -m crosscheck.bench.race                                  everything; takes some minutes
  python -m crosscheck.bench.race MaskedLM Transformer --budget 5  two mechanisms, repeated for longer

exit status:
  0  everything was raced, whichever side was faster
  1  one side could not run a mechanism
  2  a name or an option is not known, a file cannot be written, or the Model Garden is not installed (the message says how)"""


def parse(argv):
    parser = Parser("crosscheck.bench.race", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mechanism, usually the name of its layer (default: all)")
    budget = "seconds of repetition for each pass of a mechanism (default: 1)"
    parser.add_argument("--budget", type=duration, default=1.0, metavar="SECONDS", help=budget)
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the measurements as JSON")
    return parser.parse_intermixed_args(argv)


def garden():
    """The Model Garden's layers, with the other names of `crosscheck/bench/layers.py` from the Keras that they use."""
    import tensorflow as tf
    import tf_keras
    from official.nlp.modeling import layers

    others = {"PositionalEmbedding": layers.PositionEmbedding, "Dense": tf_keras.layers.Dense, "Variable": tf.Variable}
    return SimpleNamespace(**vars(layers) | others, per_example=lambda x, like: tf.repeat(x, like.shape[0], axis=0))


def race(made, size, sides, seconds):
    """{pass: result of `timed`} for the case that `made` builds from the layers of each side; {"error": …} if a side fails."""
    programs, raised = {}, []
    for side, layers in sides.items():
        try:
            programs[side] = programs_of(made(size, layers))
        except Exception as error:
            raised.append(f"{side} raised {type(error).__name__}: {' '.join(str(error).split())}"[:200])
    if raised:
        return {"error": "; ".join(raised)}
    return {what: timed({side: programs[side][what] for side in sides}, seconds) for what in PASSES}


def programs_of(case):
    """The programs of `layer_programs`, each already run once, so that compilation is not timed."""
    from keras import ops

    case.call(case.layer, *map(ops.convert_to_tensor, case.inputs))  # builds the layer
    programs = layer_programs(case)
    for run in [run for by_mode in programs.values() for run in by_mode.values()]:
        run()
    return programs


def timed(programs, seconds):
    """{side: {mode: median milliseconds}}, with the "ratio" of the faster program of each side."""
    times = iter(in_turn([run for by_mode in programs.values() for run in by_mode.values()], seconds))
    ms = {side: {mode: 1e3 * median(next(times)) for mode in by_mode} for side, by_mode in programs.items()}
    return ms | {"ratio": min(ms["theirs"].values()) / min(ms["ours"].values())}


def row(name, cells):
    return f"{name:34}" + "".join(f"{cell:>9}" for cell in cells)


def line(name, result):
    """For each pass, the milliseconds of the faster program of both sides, and their ratio."""
    if "error" in result:
        return f"✗ {name}: {result['error']}"
    passes = [(min(of["theirs"].values()), min(of["ours"].values()), of["ratio"]) for of in result.values()]
    return row(name, [f"{value:.2f}" for values in passes for value in values])


def summary(results):
    """The last lines: how many mechanisms were raced, and for each pass the geometric mean and the lowest of the ratios."""
    raced = {name: result for name, result in results.items() if "error" not in result}
    lines = [f"{len(raced)} of {len(results)} mechanisms raced"]
    for what in PASSES if raced else ():
        ratios = {name: result[what]["ratio"] for name, result in raced.items()}
        lowest = min(ratios, key=ratios.get)
        lines.append(f"{what}: geometric mean {geometric_mean(ratios.values()):.2f}, lowest {ratios[lowest]:.2f} ({lowest})")
    return lines


def main(argv=None):
    """Run the command. Returns the exit status."""
    options = parse(argv)
    prepare("tensorflow")
    try:
        with WithoutStderr():
            from crosscheck.bench import layers as bench_layers
            from crosscheck.bench import report as bench_report
            from crosscheck.bench.case import SIZES
            from crosscheck.bench.cases import CASES
            from crosscheck.report import comparison

            names = growth.find(options.names, CASES)
            sides = {"theirs": garden(), "ours": bench_layers}
    except KeyError as error:
        return refuse(error.args[0])
    except ImportError as error:
        return refuse(f"the Model Garden is not installed: {error}. Make an environment that has it:\n{RECIPE}")
    print(row("median ms", [f"{what:>27}" for what in PASSES]), row("", ["theirs", "ours", "ratio"] * len(PASSES)), sep="\n")
    results = {}
    for name in names:
        with WithoutStderr():  # XLA and the older Keras would print between the lines
            results[name] = race(CASES[name], SIZES["bench"], sides, options.budget)
        print(line(name, results[name]), flush=True)
    print("", *summary(results), sep="\n")
    if options.json:
        versions = {**comparison.versions("tensorflow"), "tf-models-official": version("tf-models-official")}
        report = {"versions": versions, "budget": options.budget, "mechanisms": results, "summary": summary(results)}
        write(report, {bench_report.as_json: options.json})
    return 1 if any("error" in result for result in results.values()) else 0


if __name__ == "__main__":
    as_program(main)
