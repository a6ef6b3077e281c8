"""What the tests of JAX share: shapes to trace with, and the equations of a program."""


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
