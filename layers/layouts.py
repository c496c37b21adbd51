"""How the weights of the layers are split over several devices, for `keras.distribution.ModelParallel` (Keras 3 on JAX).

Megatron-style tensor parallelism ([Shoeybi et al., 2019](https://arxiv.org/abs/1909.08053), section 3). Each sublayer has two
linear maps in a row. The first is split by its columns, so that a device has some of the heads, or some of the units of the
feed-forward network, and computes all that follows for them alone. The second is split by its rows. A device then has a
part of a sum, and one all-reduce adds the parts up: one for each sublayer in the forward pass, and one in the backward pass, for
the gradient of the sublayer's input.

    with model_parallel(transformer_layout(mesh)).scope():
        model = …
        check_layout(model)
"""

import re

import keras

TABLES = ("word_embeddings?", "token_embedding", r"on_device_embedding(?:_\d+)?")
"""Patterns for the names of layers whose weight `embeddings` has a row for each token of the vocabulary."""

SPLITS = ("vocabulary", "width")


def transformer_layout(mesh, model_axis="model", tables="vocabulary", table_names=TABLES):
    """The layout of the weights of encoders and decoders over the devices of a mesh.

    It holds for every layer of this package with heads or with an inner size, such as `TransformerEncoderBlock`,
    `TransformerDecoderBlock`, `TransformerDecoder`, `BertEncoder`, `TransformerXL`, `MultiHeadAttention` or `GatedFeedforward`.
    Weights are found by the names that their layers give them, at any depth. Of k devices along `model_axis`, each has

    | weight | shape | on each device |
    |---|---|---|
    | `query`, `key`, `value`, `encoding`: kernel, bias | `(m, h, d)`, `(h, d)` | `(m, h/k, d)`, `(h/k, d)` |
    | `attention_output`: kernel | `(h, e, m)` | `(h/k, e, m)` |
    | `intermediate`, `gate`: kernel, bias | `(m, f)`, `(f,)` | `(m, f/k)`, `(f/k,)` |
    | `output`: kernel | `(f, m)` | `(f/k, m)` |
    | tables of tokens: `embeddings` | `(n, m)` | `(n/k, m)`, or `(n, m/k)` by width |
    | norms, positions, all others | | whole |

    Axes: `h` head, `m` model size, `d` key size, `e` value size, `f` feed-forward size, `n` vocabulary.

    A layout changes no result, only where numbers are stored and computed. To lay a weight out in another way, write
    `layout[path] = axes` with its whole path: it goes before the patterns.

    Args:
        mesh: A `keras.distribution.DeviceMesh`.
        model_axis: The name of the axis of the mesh over which weights are split.
        tables: "vocabulary" splits tables of tokens by rows, as in the paper; "width" by columns; None leaves them whole.
        table_names: Patterns for the names of the layers that have such tables.

    Returns:
        A `keras.distribution.LayoutMap`.

    Raises:
        ValueError: if the backend is not JAX, `mesh` is no mesh or has no axis of that name, or `tables` is none of the three.
    """
    check_backend()
    if not isinstance(mesh, keras.distribution.DeviceMesh):
        raise ValueError(f"mesh must be a keras.distribution.DeviceMesh. Received: mesh of type {type(mesh).__name__}")
    check_axis(mesh, model_axis=model_axis)
    if tables not in (*SPLITS, None):
        raise ValueError(f"tables must be one of {SPLITS} or None. Received: tables={tables!r}")
    if isinstance(table_names, str):
        raise ValueError(f"table_names must be a list or tuple of patterns. Received: table_names={table_names!r}")
    inward, inner = "(?:query|key|value|value_new|value_reuse|encoding)", r"(?:intermediate|gate)(?:_\d+)?"
    patterns = {
        f"{inward}/kernel": (None, model_axis, None),
        f"{inward}/bias": (model_axis, None),
        "attention_output(?:_new|_reuse)?/kernel": (model_axis, None, None),
        f"{inner}/kernel": (None, model_axis),
        f"{inner}/bias": (model_axis,),
        r"output(?:_\d+)?/kernel": (model_axis, None),
    }
    if tables is not None:
        by_rows = tables == "vocabulary"
        patterns[f"(?:{'|'.join(table_names)})/embeddings"] = (model_axis, None) if by_rows else (None, model_axis)
    layout = keras.distribution.LayoutMap(mesh)
    for pattern, axes in patterns.items():
        layout[f"(?:.*/)?{pattern}"] = axes
    return layout


def model_parallel(layout, batch_axis="batch"):
    """A `keras.distribution.ModelParallel` that raises errors where weights or a batch do not fit the mesh.

    Make the model inside its `scope()`, or after `keras.distribution.set_distribution`, which is for the whole process until
    `set_distribution(None)`. Weights that exist before stay on one device.

    Args:
        layout: A `LayoutMap`, such as that of `transformer_layout`.
        batch_axis: The name of the axis of the mesh over which the examples of a batch are split. Weights are copied along it.

    Raises:
        ValueError: if the backend is not JAX, `layout` is no `LayoutMap`, or its mesh has no axis of that name. Where a weight
            is made: if its size is not a multiple of the devices that it is split over. Where data is split: if
            there is a remainder of examples, or no weight was split.
    """
    check_backend()
    check_map(layout)
    check_axis(layout.device_mesh, batch_axis=batch_axis)
    return CheckedModelParallel(layout, batch_axis)


class CheckedModelParallel(keras.distribution.ModelParallel):
    """`keras.distribution.ModelParallel` with the checks of `model_parallel`."""

    def __init__(self, layout, batch_axis):
        super().__init__(layout_map=layout, batch_dim_name=batch_axis)
        self.layout = layout
        self.is_used = False

    def get_variable_layout(self, variable):
        found = super().get_variable_layout(variable)
        if isinstance(found, keras.distribution.TensorLayout):
            check_fit(variable.path, variable.shape, found.axes, self.device_mesh)
            self.is_used = self.is_used or any(found.axes)
        return found

    def get_data_layout(self, data_shape):
        if not self.is_used:
            raise ValueError(
                "layout must split a weight of the model, which must be made inside the distribution's scope. "
                f"Received: no weight was made there that matches one of {list(self.layout)}"
            )
        count, devices = data_shape[0], size_of(self.device_mesh, self.batch_dim_name)
        if count % devices:
            raise ValueError(
                f"The batch must be a multiple of the {devices} devices of mesh axis {self.batch_dim_name!r}: leave the "
                f"remainder of the examples out, or pad it. Received: data of shape {tuple(data_shape)}"
            )
        return super().get_data_layout(data_shape)


def check_layout(model, layout=None):
    """Raise a ValueError unless a layout splits weights of a model, and their sizes allow it.

    Without `layout`, it is asked whether the weights are where the current distribution would put them. With `layout`, a model
    that was made on one device will do: so one can look at a layout before there are several.

    Args:
        model: A built layer or model.
        layout: A `LayoutMap`. Defaults to that of the current `model_parallel`.

    Returns:
        {path of a weight that is split: its axes}.

    Raises:
        ValueError: naming the weight, if its size is not a multiple of the number of devices, or it has fewer axes than
            the layout, or is not where it should be; or if no weight is split, or there is no layout.
    """
    is_made = layout is None
    if is_made:
        layout = getattr(keras.distribution.distribution(), "layout", None)
        if layout is None:
            raise ValueError("layout must be given outside the scope of a distribution of model_parallel. Received: layout=None")
    check_map(layout)
    split = {}
    for variable in model.variables:
        found = layout[variable.path]
        if found is None or not any(found.axes):
            continue
        check_fit(variable.path, variable.shape, found.axes, layout.device_mesh)
        split[variable.path] = found.axes
        if is_made and not variable.value.sharding.is_equivalent_to(found.backend_layout, len(variable.shape)):
            raise ValueError(
                f"{variable.path} must be laid out as {found.axes}: make the model inside the distribution's scope. "
                f"Received: {variable.value.sharding}"
            )
    if not split:
        paths = [variable.path for variable in model.variables]
        raise ValueError(f"layout must match a weight of the model. Received: patterns {list(layout)}, weights {paths[:8]}")
    return split


def bytes_on_devices(model):
    """{device: bytes of the weights of a built model that are on it}. What is copied counts on every device."""
    found = {}
    for variable in model.variables:
        for shard in variable.value.addressable_shards:
            found[str(shard.device)] = found.get(str(shard.device), 0) + shard.data.nbytes
    return found


def check_fit(path, shape, axes, mesh):
    """Raise a ValueError unless a weight has the axes of its layout, each a multiple of the devices that it is split over."""
    if len(axes) > len(shape):
        raise ValueError(f"{path} must have {len(axes)} axes for the layout {axes}. Received: shape {tuple(shape)}")
    for place, (size, axis) in enumerate(zip(shape, axes)):
        devices = 1 if axis is None else size_of(mesh, axis)
        if size % devices:
            whole = tuple(None for _ in shape)
            table = re.fullmatch(r".*embeddings", path) and "; or pad the vocabulary, or pass another `tables`"
            raise ValueError(
                f"{path} must have a multiple of {devices}, the devices of mesh axis {axis!r}, as size of axis {place}. To "
                f"leave it whole, set layout[{path!r}] = {whole}{table or ''}. Received: shape {tuple(shape)}"
            )


def check_axis(mesh, **names):
    """Raise a ValueError unless each of `names`, passed as name=value, is the name of an axis of the mesh."""
    for name, axis in names.items():
        if axis not in mesh.axis_names:
            raise ValueError(f"{name} must be an axis of the mesh, {tuple(mesh.axis_names)}. Received: {name}={axis!r}")


def check_map(layout):
    if not isinstance(layout, keras.distribution.LayoutMap):
        raise ValueError(f"layout must be a keras.distribution.LayoutMap. Received: layout of type {type(layout).__name__}")


def check_backend():
    """Raise a ValueError on a backend on which Keras ignores layouts."""
    if (backend := keras.backend.backend()) != "jax":
        raise ValueError(
            f"KERAS_BACKEND must be jax, since Keras lays weights out on JAX alone. Received: KERAS_BACKEND={backend}"
        )


def size_of(mesh, axis):
    """The number of devices along an axis of a mesh."""
    return mesh.shape[tuple(mesh.axis_names).index(axis)]
