"""Take apart what a layer or a reference returns: an array, ragged rows, a tuple, a dict, any of these nested, None inside."""

import keras
import numpy as np

from crosscheck.ragged import is_ragged, parts


def leaves(output, path="output"):
    """The arrays in `output` by where they stand, such as `{"output[0]": ..., "output[1].key": ...}`; None is left out."""
    if output is None:
        return {}
    if isinstance(output, dict):
        parts = {f"{path}.{name}": output[name] for name in sorted(output)}
    elif isinstance(output, (tuple, list)):
        parts = {f"{path}[{i}]": part for i, part in enumerate(output)}
    else:
        return {path: output}
    return {where: leaf for name, part in parts.items() for where, leaf in leaves(part, name).items()}


def to_numpy(leaf):
    """A NumPy array of a tensor; floats of every width become float64, which holds them all exactly, and bytes become text."""
    if not isinstance(leaf, (np.ndarray, np.generic)):
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype)):
            leaf = keras.ops.cast(leaf, "float32" if leaf.dtype != "float64" else "float64")
        leaf = keras.ops.convert_to_numpy(leaf)
    leaf = np.asarray(leaf)
    if is_text(leaf):
        texts = [x.decode(errors="surrogateescape") if isinstance(x, bytes) else str(x) for x in leaf.flat]
        return np.array(texts, object).reshape(leaf.shape)
    return leaf.astype("float64") if is_float(leaf) else leaf


def is_float(array):
    """Whether `array` holds floating-point numbers (so not masks, ids or text)."""
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def is_text(array):
    """Whether `array` holds text, as `str` or as bytes; only arrays of Python objects keep the NUL at a text's end."""
    return np.asarray(array).dtype.kind in "OUS"


def numbers(output):
    """`leaves(output)`, each as a NumPy array, and as several where it is ragged: its values, and where its rows end."""
    found = {}
    for where, leaf in leaves(output).items():
        arrays = {f"{where}.{part}": x for part, x in parts(leaf).items()} if is_ragged(leaf) else {where: leaf}
        found |= {place: to_numpy(array) for place, array in arrays.items()}
    return found
