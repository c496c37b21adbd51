"""Prompts as one array of ids, with the number of tokens of each (Keras 3)."""

import keras
import numpy as np

EXPECTED = "integers of shape (b, t), or a list of lists of them, or a ragged tensor"


def as_array(prompt, prompt_mask, pad_id, vocab_size):
    """`prompt` as int32 `(b, t)`, with `pad_id` after each prompt's end, and each prompt's number of tokens, int32 `(b,)`.

    Args:
        prompt, prompt_mask: As in `generate`.
        pad_id: The id to fill with.
        vocab_size: Number of ids that there are; None if it is not known.

    Raises:
        ValueError: if there is no prompt, a prompt has no token, the ids are not integers of the vocabulary, or the mask does not
            have the shape of the prompts or allows a token after padding.
    """
    rows = rows_of("prompt", prompt)
    if not rows or any(row.ndim != 1 or not row.size or row.dtype.kind not in "iu" for row in rows):
        kinds = ", ".join(f"{row.dtype} of shape {row.shape}" for row in rows[:3]) or "no prompt"
        raise ValueError(f"prompt must be {EXPECTED}. Received: rows of {kinds}")
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), pad_id)
    if prompt_mask is not None:
        lengths = lengths_of(prompt_mask, lengths)
    if vocab_size is not None:
        for row, length in zip(rows, lengths):
            if np.any((row[:length] < 0) | (row[:length] >= vocab_size)):
                raise ValueError(f"prompt must have ids from 0 to {vocab_size - 1}. Received: {row[:length].tolist()}")
    for row, length, place in zip(rows, lengths, ids):
        place[:length] = row[:length]
    return ids.astype("int32"), lengths.astype("int32")


def rows_of(name, value):
    """A list of an array for each row of the argument `name`. A ragged tensor has no padding, which would count as tokens.

    Raises:
        ValueError: if `value` has no rows, or no values, as in a program that is being compiled.
    """
    received = f"{type(value).__name__}"
    try:
        if callable(getattr(value, "to_list", None)):
            value = value.to_list()
        is_list = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object)
        if is_list or hasattr(value, "__array__"):
            return [np.asarray(keras.ops.convert_to_numpy(row)) for row in (value if is_list else as_numpy(value))]
    except (TypeError, ValueError, NotImplementedError) as error:
        if "symbolic" in str(error).lower() or "eager" in str(error) or type(error).__name__.startswith("Tracer"):
            said = "generate compiles a program of its own, and cannot be part of another or of a functional model"
            raise ValueError(f"{name} must have values: {said}. Received: a symbolic tensor, {received}") from error
        received += f", {error}"
    raise ValueError(f"{name} must be {EXPECTED}. Received: {received}")


def as_numpy(value):
    if isinstance(value, keras.KerasTensor):
        raise TypeError("it is symbolic")
    return np.asarray(keras.ops.convert_to_numpy(value))


def lengths_of(prompt_mask, lengths):
    """The number of tokens of each prompt from the mask, in which padding comes last."""
    rows = rows_of("prompt_mask", prompt_mask)
    found = {row.shape for row in rows}
    if len(found) > 1:
        raise ValueError(f"prompt_mask must have the shape of prompt. Received: rows of shapes {[row.shape for row in rows]}")
    mask = np.array(rows).astype(bool)
    if len(set(lengths)) > 1 or mask.shape != (len(lengths), lengths[0]):
        shape = f"lists of lengths {lengths.tolist()}" if len(set(lengths)) > 1 else f"shape {(len(lengths), int(lengths[0]))}"
        raise ValueError(f"prompt_mask must have the shape of prompt. Received: {mask.shape}, and a prompt of {shape}")
    if not mask[:, 0].all() or (mask[:, 1:] > mask[:, :-1]).any():
        raise ValueError(
            "prompt_mask must be nonzero for each prompt's first tokens, at least one, and zero for padding after them. "
            f"Received: {mask.astype(int).tolist()}"
        )
    return mask.sum(axis=1)
