"""Keras models as programs in ONNX, run by ONNX Runtime, if the packages for that are there."""

import keras

from crosscheck.report.command import not_installed

NEEDS = {"tensorflow": ("onnx", "tf2onnx", "onnxruntime"), "jax": ("onnx", "jax2onnx", "onnxruntime")}
NOT_HERE = "not tried here"
AFTERWARDS = "✓ after `with_erf`"


def missing(backend):
    """The packages that ONNX needs on this backend and that are not installed."""
    return not_installed(*NEEDS[backend])


def onnx_from_tensorflow(verdict, model, given, expected, path):
    """What `verdict` says of the numbers, or which operations ONNX does not have."""
    if missing("tensorflow"):
        return NOT_HERE
    model.export(path, format="onnx", verbose=False)
    unknown = unknown_operations(path)
    if unknown == ["Erfc"]:
        with_erf(path)
    elif unknown:
        return f"no operation for {', '.join(unknown)}"
    found = verdict(outputs(path, given, expected), expected)
    return AFTERWARDS if unknown and found == "✓" else found


def onnx_from_jax(verdict, model, given, expected, path):
    """The same from JAX, for fixed sizes: jax2onnx cannot reshape a symbolic batch."""
    if missing("jax"):
        return NOT_HERE
    signature = {name: described(name, x) for name, x in given.items()}
    model.export(path, format="onnx", verbose=False, input_signature=[signature])
    return verdict(outputs(path, given, expected), expected)


def described(name, x):
    return keras.layers.InputSpec(shape=tuple(x.shape), dtype=keras.backend.standardize_dtype(x.dtype), name=name)


def outputs(path, given, expected):
    """What ONNX Runtime computes, named as `expected`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return dict(zip(expected, session.run(None, {name: keras.ops.convert_to_numpy(given[name]) for name in names})))


def unknown_operations(path):
    """The operations of a program, and of its branches, that ONNX does not define."""
    import onnx

    found, waiting = [], [onnx.load(path).graph]
    while waiting:
        for node in waiting.pop().node:
            waiting += [each.g for each in node.attribute if each.type == onnx.AttributeProto.GRAPH]
            if not node.domain and not onnx.defs.has(node.op_type):
                found.append(node.op_type)
    return sorted(set(found))


def with_erf(path):
    """Write erfc(x), which ONNX does not have, as 1 − erf(x), in the float32 program at `path`."""
    import numpy as np
    import onnx

    program = onnx.load(path)
    graph = program.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "one"))
    for node in [node for node in graph.node if node.op_type == "Erfc"]:
        (output,) = node.output
        node.op_type, node.output[0] = "Erf", f"{output}/erf"
        place = list(graph.node).index(node)
        graph.node.insert(place + 1, onnx.helper.make_node("Sub", ["one", node.output[0]], [output]))
    onnx.save(program, path)
