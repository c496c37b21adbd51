"""Compare a tokenizer with its reference, string by string."""

import numpy as np

from crosscheck.tree import as_lists


def compare_tokens(layer, reference, texts):
    """Compare ids and bytes of all strings. Returns how many strings and tokens were compared.

    Args:
        layer: Takes an array of strings; returns ids, starts and limits as ragged tensors.
        reference: Takes the list of strings; returns the same as nested lists.
        texts: Strings.

    Raises:
        AssertionError: with the first string whose results differ, and both results.
    """
    found = list(zip(*map(as_lists, layer(np.array(texts, object)))))
    expected = list(zip(*reference(texts)))
    for text, got, wanted in zip(texts, found, expected, strict=True):
        assert got == wanted, f"{text!r} should give {wanted}, not {got}"
    return len(texts), sum(len(pieces) for ids, *_ in expected for pieces in ids)
