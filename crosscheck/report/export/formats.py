"""A case of a layer in each format: exported, loaded, run, and compared with the layer."""

import re
import tempfile
from functools import partial

import keras

from crosscheck.agreement import Trial, largest_error
from crosscheck.case import TOLERANCE, arguments
from crosscheck.report.export.onnx_programs import onnx_from_jax, onnx_from_tensorflow
from crosscheck.report.export.ragged import archive_of_ragged
from crosscheck.tree import is_ragged, leaves, numbers

SAVED, LITE, LITE_OPEN, ONNX, JAX, ONNX_JAX = COLUMNS = (
    "SavedModel",
    "TFLite",
    "TFLite, open lengths",
    "ONNX",
    "jax.export",
    "ONNX from JAX",
)
BY = {"tensorflow": COLUMNS[:4], "jax": COLUMNS[4:]}
SAME = "✓"
BY_ARCHIVE = "✓ by an `ExportArchive`"
TEXT = ("bert_tokenizer", "sentencepiece_tokenizer", "bert_pack_inputs")
NO_TEXT = "no strings or ragged rows there"


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


def archived(model, given, expected, folder):
    """A SavedModel with ragged inputs, for which `model.export` would take dense ones."""
    import tensorflow as tf

    archive_of_ragged(model, given, folder)
    loaded = tf.saved_model.load(folder)
    found = verdict(numbers(loaded.serve(given)), expected)
    return BY_ARCHIVE if found == SAME else found


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
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error))
    if operations := re.findall(r"'tf\.(\w+)' op is neither", text) or re.findall(r"Flex(\w+)\(", text):
        return f"no built-in for {', '.join(dict.fromkeys(operations))}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith("Exception encountered when calling")]  # Keras says where, first
    return f"{type(error).__name__}: {(reasons or lines or [''])[0]}"[:160]


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:  # whatever it is, it is what the table says
        return said(error)


def on_tensorflow(case):
    """What TensorFlow measures, one after the other: (column, verdict)."""
    trial = Trial(case)
    with tempfile.TemporaryDirectory() as folder:
        for is_open in (False, True):
            column, place = LITE_OPEN if is_open else LITE, f"{folder}/{is_open}"
            try:
                model, given, expected = functional(case, trial, is_open)
            except Exception as error:
                yield from dict.fromkeys(BY["tensorflow"], said(error)).items()
                return
            if is_open:
                export = archived if any(map(is_ragged, given.values())) else saved_model
                yield SAVED, attempt(export, model, given, expected, place)
                onnx = partial(onnx_from_tensorflow, verdict, model, given, expected, f"{place}.onnx")
                yield ONNX, NO_TEXT if case.chapter in TEXT else attempt(onnx)
            elif case.chapter not in TEXT:
                attempt(partial(model.export, place, verbose=False))
            yield column, NO_TEXT if case.chapter in TEXT else attempt(tflite, place, given, expected)


def on_jax(case):
    """What JAX measures: (column, verdict)."""
    if case.chapter in TEXT:
        yield from dict.fromkeys(BY["jax"], NO_TEXT).items()
        return
    yield JAX, attempt(exported_by_jax, case)
    yield ONNX_JAX, attempt(converted_by_jax, case)


def converted_by_jax(case):
    model, given, expected = functional(case, Trial(case), False)
    with tempfile.TemporaryDirectory() as folder:
        return onnx_from_jax(verdict, model, given, expected, f"{folder}/program.onnx")


def exported_by_jax(case):
    layer, inputs = Trial(case).make("float32")
    given = arguments(inputs, "float32")
    rest = {n: x for n, x in given.items() if not keras.ops.is_tensor(x)}
    given = {n: x for n, x in given.items() if n not in rest}
    return jax_program(layer, lambda **tensors: leaves(case.call(layer, **tensors, **rest)), given, case.batch)


def jax_program(layer, call, given, batch):
    """`call(**given)`, which uses the weights of `layer`, exported with a symbolic batch, serialized, loaded and run."""
    import jax
    from jax import export

    tensors = list(given.values())  # JAX would sort a dict, and some cases go by its order
    state = [variable.value for variable in layer.variables]

    def run(state, tensors):
        with keras.StatelessScope(state_mapping=list(zip(layer.variables, state))):
            return call(**dict(zip(given, tensors)))

    (b,) = export.symbolic_shape("b")
    described = [jax.ShapeDtypeStruct((b, *x.shape[1:]) if x.shape[:1] == (batch,) else x.shape, x.dtype) for x in tensors]
    fixed = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in state]
    exported = export.export(jax.jit(run))(fixed, described)
    loaded = export.deserialize(exported.serialize())
    return verdict(numbers(loaded.call(state, tensors)), numbers(run(state, tensors)))
