"""Classes under the names by which saved models know them, imported only when such a model is loaded."""

import keras


class NotYetImported:
    """Takes the place of a class in Keras's registry until the class is imported, which registers the class itself.

    Args:
        load: Function without arguments that imports and returns the class.
    """

    def __init__(self, load):
        self.load = load

    def from_config(self, config):
        """What Keras calls to make a saved layer."""
        return self.load().from_config(config)


def register(loaders):
    """Let saved models find classes that are not imported yet; `loaders` is {name of a class: what imports and returns it}."""
    for name, load in loaders.items():
        keras.saving.get_custom_objects().setdefault(f"layers>{name}", NotYetImported(load))


def registered(name):
    """What is registered with Keras as `name`, imported if necessary; None if there is nothing."""
    found = keras.saving.get_registered_object(name)
    return found.load() if isinstance(found, NotYetImported) else found


def layer_class(name, kind):
    """The layer class `kind`, which may be a class or its registered name; None for None.

    Raises:
        ValueError: if `kind` is anything else; the error names the argument `name`.
    """
    found = registered(kind) if isinstance(kind, str) else kind
    if kind is not None and not (isinstance(found, type) and issubclass(found, keras.layers.Layer)):
        raise ValueError(f"{name} must be a layer class or the registered name of one. Received: {name}={kind!r}")
    return found
