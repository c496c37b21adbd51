"""Names that are asked for on a command line."""

import difflib


def check_known(names, known, kind, shown=None):
    """Raise a KeyError for the first of `names` that is not in `known`, with the nearest ones.

    Args:
        names, known: Strings.
        kind: What such a name is the name of.
        shown: The names to list if none is near; `known` unless given.
    """
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, cutoff=0.4) or shown or known
            raise KeyError(f"no {kind} is called {name!r}. The nearest: {', '.join(nearest)}")
