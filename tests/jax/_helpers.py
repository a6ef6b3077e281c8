"""What the tests of JAX share: the expected numbers of a batch, and of each of its images."""

import numpy as np

from tests.conformance._case import Case


def case_of(batch, **options):
    """Make a case of logits and labels."""
    return Case("jax", "", *batch, options)


def images_of(batch, **options):
    """Make a case of each image."""
    logits, labels = batch
    return [case_of((logits[i : i + 1], labels[i : i + 1]), **options) for i in range(len(logits))]


def assert_both(case, value, gradient, dtype="float64"):
    """Compare value and gradient with the oracle."""
    np.testing.assert_allclose(value, case.expected.value, **case.value_tolerance(dtype))
    np.testing.assert_allclose(gradient, case.expected.gradient, **case.gradient_tolerance(dtype))


def assert_images(cases, values, gradients, dtype="float64"):
    """Compare the value and gradient of each image with the oracle."""
    for i, case in enumerate(cases):
        assert_both(case, values[i], gradients[i : i + 1], dtype)


def shapes(logits, labels, dtype="float32"):
    """Stand for logits and labels of these shapes where a program is traced."""
    import jax

    return jax.ShapeDtypeStruct(logits, dtype), jax.ShapeDtypeStruct(labels, "int32")


def equations(jaxpr, *, into_branches=True):
    """List the equations of a program and of the programs inside."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name == "cond" and not into_branches:
            continue
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner, into_branches=into_branches)
