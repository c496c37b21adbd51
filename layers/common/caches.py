"""Caches, dicts of tensors with a row for each example, of which the number may not be known yet (Keras 3)."""

from keras import ops

from layers.common.checks import check_at_least


def rows_for(batch, name="batch"):
    """The number of rows of a cache for `batch` examples: 1 if `batch` is None, which `for_each_example` repeats.

    Raises:
        ValueError: if `batch`, called `name`, is neither None nor a tensor nor an integer of at least 1.
    """
    if batch is not None and not ops.is_tensor(batch):
        check_at_least(1, **{name: batch})
    return 1 if batch is None else batch


def for_each_example(cache, x):
    """`cache`, or, if it has a single row and `x` may have more, that row repeated for each example of `x`."""
    if x.shape[0] == 1 or not has_one_row(cache):
        return cache
    return {name: ops.broadcast_to(part, (ops.shape(x)[0], *ops.shape(part)[1:])) for name, part in cache.items()}


def has_one_row(cache):
    return all(tuple(part.shape[:1]) == (1,) for part in cache.values())


def check_parts(cache):
    """Raise a ValueError unless `cache` is a dictionary of "key" and "value"."""
    if not isinstance(cache, dict) or set(cache) != {"key", "value"}:
        received = sorted(cache) if isinstance(cache, dict) else type(cache).__name__
        raise ValueError(f'cache must be a dictionary of "key" and "value". Received: {received}')
