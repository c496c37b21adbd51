"""The floors of `python -m crosscheck.bench`: that they count what a layer multiplies, and nothing that it could avoid."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from crosscheck.bench.case import SIZES
from crosscheck.bench.cases import CASES
from crosscheck.bench.cases.attention import CHUNK, FEATURES, WINDOW
from crosscheck.bench.floors import BOTH, LEFT, NEITHER, RIGHT, Product, attention, multiply_adds, products_of
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.probe import floor_program, layer_program, made

S = SIZES["small"]
PAIRS = S.b * S.h * S.t * S.t * S.d
FEW, KEYS = 2 * S.h * S.long * S.d, WINDOW * CHUNK  # numbers in a long sequence's heads; keys that a window shows


def both(forward, slopes=2):
    """The multiply-adds of a pass forward, and with the gradients of as many sides of its products."""
    return {"forward": forward, "gradient": forward * (1 + slopes)}


BEYOND = {
    # The floor has scores and sums of t + 1 keys. The layer has a product with ones over all 2 t slots, and sums without one.
    "CachedAttention": both(-2 * S.b * S.h * S.d, slopes=1),
    # A column of ones beside the values, for the denominators, in both products of features.
    "KernelAttention_elu": both(2 * FEW),
    "KernelAttention_exp": both(2 * FEW // S.d * FEATURES),
    # Sums of features with values and ones, and queries with these, where scores and sums of pairs would be less.
    "KernelAttention_causal_window": both(2 * FEW * (S.d + 1 - KEYS)),
    # The precision with one vector, the mark by which its factor is known to be of now.
    "RandomFeatureGaussianProcess": both(S.r**2, slopes=0),
    "GaussianProcessClassificationHead": both(S.r**2, slopes=0),
    # Encodings of distances at which a query has no key: t of them, for each query of each stream.
    "MultiHeadRelativeAttention": both(PAIRS),
    "TwoStreamRelativeAttention": both(2 * PAIRS),
    "TransformerXLBlock": both(PAIRS),
    "TransformerXL": both(2 * PAIRS),
    # A product with one-hot types instead of a look-up.
    "MobileBertEmbedding": both(S.b * S.t * 2 * S.m, slopes=1),
}
"""What layers multiply that could be avoided, counted by hand, by pass."""


def operations(graph):
    """Those that the outputs of a graph need."""
    found, waiting = {}, [output.op for output in graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += [*(x.op for x in operation.inputs), *operation.control_inputs]
    return found.values()


def called_by(operation):
    """The graphs of branches, of a loop's condition and body, or of a function."""
    values = operation.node_def.attr.values()
    functions = [x for value in values for x in ([value.func] if value.HasField("func") else value.list.func)]
    return [operation.graph._get_function(function.name).graph for function in functions if function.name]


def multiply_adds_of(operation):
    """The multiply-adds of a matrix product or an einsum, or of the functions that an operation calls; 0 of everything else."""
    if operation.type == "Einsum" and len(operation.inputs) > 1:
        terms, result = operation.get_attr("equation").decode().replace("...", "").split("->")
        sizes = {}
        for term, x in zip(terms.split(","), operation.inputs):
            sizes |= dict(zip(term[::-1], x.shape[::-1]))
        summed = [size for axis, size in sizes.items() if axis not in result]
    elif operation.type in ("MatMul", "BatchMatMulV2"):
        is_transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        summed = [operation.inputs[0].shape[-2 if is_transposed else -1]]
    else:
        return sum(multiply_adds_of(inner) for graph in called_by(operation) for inner in graph.get_operations())
    return int(np.prod([*operation.outputs[0].shape, *summed]))


def graph_of(program):
    return next(cell.cell_contents.graph for cell in program.__closure__ if hasattr(cell.cell_contents, "graph"))


@pytest.mark.parametrize("what", PASSES)
@pytest.mark.parametrize("name", CASES)
def test_a_floor_counts_what_the_layer_multiplies_but_for_what_could_be_avoided(name, what):
    case = made(name, "small")
    program = layer_program(case, what == "gradient", "graph")
    counted = sum(multiply_adds_of(operation) for operation in operations(graph_of(program)))
    floor = multiply_adds(products_of(case.products, what == "gradient"))
    assert counted == floor + BEYOND.get(name, {}).get(what, 0)
    assert all(np.isfinite(x).all() for x in keras.tree.flatten(program()))


def test_a_floor_in_full_size_is_what_one_counts_by_hand():
    tokens, heads, pairs = 8 * 256, 8 * 8, (256, 64, 256)
    assert attention(SIZES["bench"]) == [
        *[Product(1, tokens, 512, 512, RIGHT)] * 3,
        Product(heads, *pairs, BOTH),
        Product(heads, 256, 256, 64, BOTH),
        Product(1, tokens, 512, 512, BOTH),
    ]
    projection, mixing = tokens * 512 * 512, heads * 256 * 256 * 64
    assert multiply_adds(products_of(attention(SIZES["bench"]), False)) == 4 * projection + 2 * mixing
    assert multiply_adds(products_of(attention(SIZES["bench"]), True)) == (4 + 3 + 2) * projection + 6 * mixing


def test_products_in_branches_loops_and_functions_are_counted():
    x = tf.ones((3, 3))

    def branches():
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.while_loop(lambda y: y[0, 0] < 9, lambda y: (y @ x,), (x,))[0], lambda: x)

    for program in (branches, tf.function(lambda: tf.function(lambda y: y @ x)(x))):
        graph = tf.function(program).get_concrete_function().graph
        assert sum(multiply_adds_of(operation) for operation in operations(graph)) == 27


def test_gradients_have_the_shapes_of_the_sides_that_they_belong_to():
    left, right = Product(2, 3, 5, 7).gradients()
    assert (left.rows, left.columns) == (3, 5) and (right.rows, right.columns) == (5, 7)
    assert left.inner == 7 and right.inner == 3 and left.batch == right.batch == 2
    assert Product(2, 3, 5, 7, LEFT).gradients() == [left] and Product(2, 3, 5, 7, RIGHT).gradients() == [right]
    assert Product(2, 3, 5, 7, NEITHER).gradients() == []


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_floor_returns_every_product_so_that_none_can_be_left_out(mode):
    products = [Product(1, 3, 5, 7), Product(2, 3, 5, 7, LEFT), Product(1, 3, 5, 7)]
    results = floor_program(products, True, mode)()
    shapes = [(3, 7), (2, 3, 7), (3, 7), (3, 5), (5, 7), (2, 3, 5), (3, 5), (5, 7)]
    assert [tuple(x.shape) for x in results] == shapes
    assert abs(results[0] - results[2]).numpy().max() > 1e-3  # of matrices of their own
