"""Run and differentiate a layer, eagerly or compiled by XLA, on the backend of Keras.

Keras itself has neither gradients nor a compiler, so this module takes them from the backend.

Importing it lets JAX compute in float64, if that is the backend, unless JAX_ENABLE_X64 in the environment says otherwise.
"""

import os

import keras
from keras import ops

from crosscheck.tree import is_ragged, leaves
from crosscheck.weights import drawn_by_numpy

if keras.backend.backend() == "jax" and "JAX_ENABLE_X64" not in os.environ:
    import jax

    jax.config.update("jax_enable_x64", True)


def differentiate(call, layer, inputs, cotangents, compiled=None):
    """The outputs of a layer, and the gradient of Σ cotangent · output.

    Args:
        call: Takes the layer and `inputs`.
        layer: A built layer.
        inputs: Call arguments: tensors, or other values, which are passed on unchanged.
        cotangents: {leaf of the output: array of its shape}, for the leaves to differentiate.
        compiled: Whether XLA compiles the computation, instead of running it eagerly. Unless given, it does on JAX, where each
            operation would be compiled by itself otherwise.

    Returns:
        ({leaf: output}, {path of a trainable variable: gradient}, {name of a float input: gradient}).

    Raises:
        TypeError: if TensorFlow gives a gradient as entries for single rows, with which some optimizers train wrongly.
    """
    tensors = {name: x for name, x in inputs.items() if keras.ops.is_tensor(x)}
    floats = {n: x for n, x in tensors.items() if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))}
    others = {name: x for name, x in tensors.items() if name not in floats}
    fixed = {name: x for name, x in inputs.items() if name not in tensors}
    variables = {variable.path: variable for variable in layer.trainable_variables}

    def run(floats, others):
        outputs = leaves(call(layer, **floats, **others, **fixed))
        terms = [ops.sum(outputs[where] * ops.cast(c, outputs[where].dtype)) for where, c in cotangents.items()]
        return outputs, sum(terms) if terms else ops.zeros(())

    program = BACKENDS[keras.backend.backend()](run, variables)
    return program(floats, others, keras.backend.backend() == "jax" if compiled is None else compiled)


def build(call, layer, inputs, symbolic=True):
    """Build `layer` by calling it on `inputs`.

    On JAX a symbolic call with the same shapes is enough; a real call would take seconds to compile its steps. `symbolic=False`
    is for a layer that does not support symbolic calls, as those of TensorFlow's operations do not on JAX.
    """
    if not symbolic or not layer.supports_jit or keras.backend.backend() != "jax":
        call(layer, **inputs)
        return
    inputs = {name: symbol_of(x) if keras.ops.is_tensor(x) else x for name, x in inputs.items()}
    with drawn_by_numpy():
        call(layer, **inputs)


def symbol_of(tensor):
    return keras.Input(batch_shape=tensor.shape, dtype=keras.backend.standardize_dtype(tensor.dtype))


def open_symbols(case, tensors):
    """A symbolic input for each of `tensors`, with the batch and the unknown lengths of `case` left open; others as they are."""
    open_sizes = (case.batch, *case.unknown)
    return {
        name: keras.Input(
            batch_shape=[None if size in open_sizes else size for size in x.shape],
            dtype=keras.backend.standardize_dtype(x.dtype),
            name=name,
            ragged=is_ragged(x),
        )
        if keras.ops.is_tensor(x) or isinstance(x, keras.KerasTensor)
        else x
        for name, x in tensors.items()
    }


def evaluate(call, layer, inputs):
    """The output of the layer for `inputs`, called through `call`.

    TensorFlow runs it eagerly. JAX would compile every operation separately, which takes longer than compiling them together, so
    on JAX the call is one program, unless the layer is one of TensorFlow's operations.
    """
    if keras.backend.backend() != "jax" or not layer.supports_jit:
        return call(layer, **inputs)
    import jax

    names = [name for name, x in inputs.items() if keras.ops.is_tensor(x)]
    variables = layer.variables

    def run(values, tensors):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return call(layer, **(inputs | dict(zip(names, tensors))))  # keep the order, which a call with a list depends on

    values, tensors = [variable.value for variable in variables], [inputs[name] for name in names]
    # XLA's own passes run, those of its code generator do not: the program runs once, and would take twice as long to compile.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(run).lower(values, tensors).compile(compiler_options=options)(values, tensors)


def on_tensorflow(run, variables):
    import tensorflow as tf

    def program(floats, others):
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs, loss = run(floats, others)
        values = {path: variable.value for path, variable in variables.items()}
        slopes = tape.gradient(loss, (values, floats), unconnected_gradients="zero") if outputs else ({}, {})
        for name, slope in [pair for part in slopes for pair in part.items()]:
            if isinstance(slope, tf.IndexedSlices):
                raise TypeError(f"the gradient for {name} must be one tensor, as of rows_at. Received: entries for single rows")
        return outputs, *(tf.nest.map_structure(tf.convert_to_tensor, part) for part in slopes)

    def differentiated(floats, others, compiled):
        # Layers need no AutoGraph, which takes as long as the rest of the trace. Keras trains without it, too.
        return (tf.function(program, jit_compile=True, autograph=False) if compiled else program)(floats, others)

    return differentiated


def on_jax(run, variables):
    import jax

    def loss_of(values, floats, others):
        with keras.StatelessScope(state_mapping=[(variables[path], value) for path, value in values.items()]):
            outputs, loss = run(floats, others)
        return loss, outputs

    def program(floats, others, compiled):
        values = {path: variable.value for path, variable in variables.items()}
        slope = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
        (_, outputs), slopes = (jax.jit(slope) if compiled else slope)(values, floats, others)
        return outputs, *slopes

    return program


BACKENDS = {"tensorflow": on_tensorflow, "jax": on_jax}


def ragged_tensor(ragged):
    """A `Ragged` as a ragged tensor, which only TensorFlow has."""
    import tensorflow as tf

    return tf.RaggedTensor.from_nested_row_splits(ragged.flat_values, ragged.nested_row_splits)


def compiled_step(run, variables, inputs, with_gradient=False, xla=False, for_inputs=False):
    """A function without arguments that runs the compiled `run(*inputs)` and returns when the computation is finished.

    Args:
        run: Takes tensors and returns tensors in any nesting.
        variables: All variables of the layers that `run` calls; on TensorFlow they may be TensorFlow's own.
        inputs: Arrays.
        with_gradient: Whether to compute, in place of the outputs, the sum of squares of all float outputs and its gradient for
            the trainable variables.
        xla: Whether XLA compiles the program; on JAX it always does.
        for_inputs: Whether to include the gradient for `inputs`, which must then be floats.
    """
    inputs = [ops.convert_to_tensor(x) for x in inputs]
    return STEPS[keras.backend.backend()](
        lambda *inputs: list(leaves(run(*inputs)).values()), variables, inputs, with_gradient, xla, for_inputs
    )


def sum_of_squares(tensors):
    floats = [x for x in tensors if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))]
    return sum((ops.sum(ops.square(x)) for x in floats), ops.zeros(()))


def step_on_tensorflow(run, variables, inputs, with_gradient, xla, for_inputs):
    import tensorflow as tf

    # The layers of an older Keras have TensorFlow's own variables.
    trained = [v if isinstance(v, tf.Variable) else v.value for v in variables if v.trainable]

    def gradient(*inputs):
        watched = inputs if for_inputs else ()
        sources = [*trained, *watched]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            loss = sum_of_squares(run(*inputs))
        slopes = tape.gradient(loss, sources) if sources else []
        return loss, [tf.convert_to_tensor(slope) for slope in slopes if slope is not None]

    program = tf.function(gradient if with_gradient else run, jit_compile=xla).get_concrete_function(*inputs)
    if not tf.config.list_physical_devices("GPU"):
        return lambda: program(*inputs)  # on a CPU the call returns when the computation is finished

    def awaited():
        results = program(*inputs)
        tf.test.experimental.sync_devices()
        return results

    return awaited


def step_on_jax(run, variables, inputs, with_gradient, xla, for_inputs):
    import jax

    trained = [variable for variable in variables if variable.trainable]
    fixed = [variable for variable in variables if not variable.trainable]

    def forward(trained_values, fixed_values, inputs):
        with keras.StatelessScope(state_mapping=[*zip(trained, trained_values), *zip(fixed, fixed_values)]):
            return run(*inputs)

    def gradient(*arguments):
        sources = (0, 2) if for_inputs else 0
        return jax.value_and_grad(lambda *arguments: sum_of_squares(forward(*arguments)), sources)(*arguments)

    values = [[variable.value for variable in side] for side in (trained, fixed)]
    program = jax.jit(gradient if with_gradient else forward).lower(*values, inputs).compile()
    return lambda: jax.block_until_ready(program(*values, inputs))


STEPS = {"tensorflow": step_on_tensorflow, "jax": step_on_jax}
