"""What leaves Keras with the same numbers: each public class as a SavedModel, for TFLite, and by `jax.export`.

`python -m crosscheck.report.export` measures it and writes EXPORT.md; with names of classes it prints their rows.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import keras

from crosscheck.agreement import Trial, largest_error
from crosscheck.case import TOLERANCE, arguments
from crosscheck.catalogue import representatives
from crosscheck.tree import is_ragged, leaves, numbers

COLUMNS = ("SavedModel", "TFLite", "TFLite, open lengths", "jax.export")
SAME = "✓"
TOGETHER = 6
TEXT = ("bert_tokenizer", "sentencepiece_tokenizer", "bert_pack_inputs")
NO_TEXT = "no strings or ragged rows there"
ON = "--on"
PAGE = Path(__file__).parent.parent.parent / "EXPORT.md"


def is_symbol(value):
    return keras.ops.is_tensor(value) or isinstance(value, keras.KerasTensor)


def symbol(case, name, tensor, is_open):
    open_sizes = (case.batch, *case.unknown) if is_open else ()
    shape = [None if size in open_sizes else size for size in tensor.shape]
    return keras.Input(
        batch_shape=shape, dtype=keras.backend.standardize_dtype(tensor.dtype), name=name, ragged=is_ragged(tensor)
    )


def functional(case, trial, is_open):
    """A functional model of the case in float32, whose outputs are a list; its inputs; and its outputs, {leaf: array}."""
    layer, inputs = trial.make("float32")
    given = arguments(inputs, "float32")
    symbols = {n: symbol(case, n, x, is_open) if keras.ops.is_tensor(x) else x for n, x in given.items()}
    outputs = list(leaves(case.call(layer, **symbols)).values())
    model = keras.Model({n: x for n, x in symbols.items() if is_symbol(x)}, outputs)
    given = {n: x for n, x in given.items() if keras.ops.is_tensor(x)}
    trial.make("float32")
    expected = numbers(model(given))
    trial.make("float32")
    return model, given, expected


def verdict(found, expected):
    """ "✓", or by how much the numbers differ."""
    error = largest_error(found, expected)
    return SAME if error < TOLERANCE["float32"] else f"differs by {error:.0e}"


def saved_model(model, given, expected, folder):
    import tensorflow as tf

    model.export(folder, verbose=False)
    loaded = tf.saved_model.load(folder)
    return verdict(numbers(loaded.serve(given)), expected)


def tflite(folder, given, expected):
    """Built-in operations alone: neither Flex nor custom ones."""
    import tensorflow as tf

    program = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    interpreter = tf.lite.Interpreter(model_content=program)
    runner = interpreter.get_signature_runner("serving_default")
    found = runner(**{name: keras.ops.convert_to_numpy(x) for name, x in given.items()})
    places = sorted(found, key=lambda name: int(name.removeprefix("output_")))
    return verdict(dict(zip(expected, (found[place] for place in places))), expected)


def said(error):
    """An error in a few words."""
    text = str(error)
    if operations := re.findall(r"'tf\.(\w+)' op is neither", text) or re.findall(r"Flex(\w+)\(", text):
        return f"no built-in for {', '.join(dict.fromkeys(operations))}"
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}"[:160]


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:  # whatever it is, it is what the table says
        return said(error)


def on_tensorflow(case):
    """The three that TensorFlow measures, one after the other: (column, verdict)."""
    trial = Trial(case)
    with tempfile.TemporaryDirectory() as folder:
        for is_open in (False, True):
            column, place = COLUMNS[2 if is_open else 1], f"{folder}/{is_open}"
            try:
                model, given, expected = functional(case, trial, is_open)
            except Exception as error:
                yield from dict.fromkeys(COLUMNS[:3], said(error)).items()
                return
            if is_open:
                yield COLUMNS[0], attempt(saved_model, model, given, expected, place)
            else:
                attempt(partial(model.export, place, verbose=False))
            yield column, NO_TEXT if case.chapter in TEXT else attempt(tflite, place, given, expected)


def on_jax(case):
    """The one that JAX measures, with a symbolic batch: (column, verdict)."""
    yield COLUMNS[3], NO_TEXT if case.chapter in TEXT else attempt(exported_by_jax, case)


def exported_by_jax(case):
    import jax
    from jax import export

    trial = Trial(case)
    layer, inputs = trial.make("float32")
    given = arguments(inputs, "float32")
    rest = {n: x for n, x in given.items() if not keras.ops.is_tensor(x)}
    given = {n: x for n, x in given.items() if n not in rest}
    tensors = list(given.values())  # JAX would sort a dict, and some cases go by its order
    state = [variable.value for variable in layer.variables]

    def call(state, tensors):
        with keras.StatelessScope(state_mapping=list(zip(layer.variables, state))):
            return leaves(case.call(layer, **dict(zip(given, tensors)), **rest))

    (b,) = export.symbolic_shape("b")
    described = [jax.ShapeDtypeStruct((b, *x.shape[1:]) if x.shape[:1] == (case.batch,) else x.shape, x.dtype) for x in tensors]
    fixed = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in state]
    exported = export.export(jax.jit(call))(fixed, described)
    loaded = export.deserialize(exported.serialize())
    return verdict(numbers(loaded.call(state, tensors)), numbers(call(state, tensors)))


def rows(names):
    """{class: {column: verdict}}, a few classes at a time, each time in a process of its own for each backend."""
    for first in range(0, len(names), TOGETHER):
        some = names[first : first + TOGETHER]
        there = {backend: verdicts(backend, some) for backend in MEASURE}
        for name in some:
            yield name, there["tensorflow"][name] | there["jax"][name]


def verdicts(backend, names):
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    program = [sys.executable, "-W", "ignore", "-m", "crosscheck.report.export", ON, backend, *names]
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('["')]
    found = {name: {column: verdict for which, column, verdict in lines if which == name} for name in names}
    if ran.returncode and len(names) > 1:  # a converter or an interpreter may end its process: find out with which
        return {name: verdicts(backend, [name])[name] for name in names}
    columns = COLUMNS[:3] if backend == "tensorflow" else COLUMNS[3:]
    return {name: dict.fromkeys(columns, "the process died") | row for name, row in found.items()}


MEASURE = {"tensorflow": on_tensorflow, "jax": on_jax}

INTRODUCTION = """# What can be exported

Made by `python -m crosscheck.report.export`, which exports one case of each class in float32, runs the result, and compares
its numbers with those of the layer. ✓ means that they agree to 2·10⁻⁵; elsewhere is what happened instead.

- **SavedModel**: `model.export` on TensorFlow, with open batch and lengths, loaded with `tf.saved_model.load`.
- **TFLite**: `tf.lite.TFLiteConverter.from_saved_model` with built-in operations alone, for fixed sizes.
- **TFLite, open lengths**: the same with open batch and lengths.
- **jax.export**: on JAX, with a symbolic batch, serialized and loaded.
"""


NOTES = """
## Quantized, and with less memory

- `model.quantize` with "int8", "int4" or "float8" quantizes the linear maps of every layer, and a quantized model can be saved
  and loaded. Tables, norms and the Gaussian process stay in floating point, and Keras warns of each. `SpectralNormalization`
  takes no kernel of int4. A quantized policy as `dtype` is an error. int8 changes the outputs of
  the case that `tests/conformance/test_quantization.py` measures of each class by at most 2 %; other sizes may change more: the
  pooler and head of a real model (`classification_head/minilm`) changed by 4.3 %.
- What is quantized to int8 cannot be converted for TFLite (ConverterError) if it has linear maps other than those of attention,
  as have `TransformerEncoderBlock`, `GatedFeedforward` and `ClassificationHead`; nor can Keras's own `Dense`. Quantize to int4,
  or have the converter of TFLite quantize.
- A `keras.dtype_policies.DTypePolicyMap` as `dtype` is saved with the model if its default is not None and its values are
  policies, `keras.DTypePolicy("mixed_bfloat16")`: without a default, Keras 3.15 loses the policies of the parts when it saves
  (those of `keras.layers.MultiHeadAttention` too), and it takes no names of policies as values.
- `enable_lora` of any linear map trains the addition alone; `model.save` merges it into the kernel.
- `keras.RematScope("activations")` trains as without, on TensorFlow and on JAX. "full" fails within Keras 3.15: on TensorFlow for
  a `keras.layers.Dense` too, on JAX for layers that hand `training` to their sublayers.
"""


def page(found):
    """EXPORT.md, from `rows()`."""
    lines = [f"| class | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {line_of(name, row)} |" for name, row in sorted(found.items())]
    return "\n".join([INTRODUCTION, *lines, NOTES])


def line_of(name, row):
    return " | ".join([f"`{name}`", *(row[column].replace("|", "\\|") for column in COLUMNS)])


def main(arguments):
    if arguments[:1] == [ON]:
        _, backend, *names = arguments
        for name in names:
            for column, verdict in MEASURE[backend](representatives()[name]):
                print(json.dumps([name, column, verdict]), flush=True)
        return
    if unknown := set(arguments) - set(representatives()):
        sys.exit(f"names must be public classes. Received: {', '.join(sorted(unknown))}")
    found = {}
    for name, row in rows(arguments or list(representatives())):
        found[name] = row
        print(line_of(name, row), flush=True)
    if not arguments:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main(sys.argv[1:])
