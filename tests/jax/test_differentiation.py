"""Every way in which JAX differentiates the loss."""

import numpy as np
import pytest

import ohemloss
from tests._cases import CURVATURE, make, make_small
from tests._reference import curvature, interpolate, pull_back
from tests.conformance._check import assert_both, assert_images, case_of, images_of

jax = pytest.importorskip("jax")
pytest.importorskip("ohemloss_jax")
jnp = jax.numpy
pytestmark = pytest.mark.usefixtures("double")

SMOOTHED = {"weight": (0.5, 2.0, 0.0, 1.0, 3.0), "label_smoothing": 0.1, "min_kept": 0.6}


def loss_of(labels, **options):
    y = jnp.asarray(labels)
    return lambda x: ohemloss.ohem_cross_entropy(x, y, **options)


def test_forward_mode(row, shows):
    batch = make("3% hard")
    case, x, loss = case_of(batch), jnp.asarray(batch[0]), loss_of(batch[1])
    direction = np.random.default_rng(0).normal(size=x.shape)
    value, derivative = jax.jvp(loss, (x,), (jnp.asarray(direction),))
    assert_both(case, value, jax.jit(jax.jacfwd(loss))(x))
    shows(row, "forward mode", derivative, (case.expected.gradient * direction).sum(), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, SMOOTHED], ids=["plain", "smoothed"])
def test_second_order(row, shows, options):
    logits, labels = make("3% hard", shape=(2, 3, 4))
    direction = np.random.default_rng(0).normal(size=logits.shape) / 10
    loss, v = loss_of(labels, **options), jnp.asarray(direction)
    orders = (
        lambda x: jax.jvp(jax.grad(loss), (x,), (v,))[1],
        jax.grad(lambda x: (jax.grad(loss)(x) * v).sum()),
        jax.grad(lambda x: jax.jvp(loss, (x,), (v,))[1]),
        lambda x: jnp.tensordot(jax.hessian(loss)(x), v, x.ndim),
    )
    for along in jax.jit(lambda x: [order(x) for order in orders])(jnp.asarray(logits)):
        shows(row, "second order", along, curvature(logits, labels, direction, **options), **CURVATURE)


def test_vmap(row, shows):
    """Outside `jit`, and within."""
    batch = make("3% hard", shape=(3, 6, 7))
    cases, arrays = images_of(batch), [jnp.asarray(array) for array in batch]
    both = jax.vmap(jax.value_and_grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0)))
    expected = np.concatenate([case.expected.gradient for case in cases])
    for values, grads in (both(*arrays), jax.jit(both)(*arrays)):
        assert_images(cases, values, grads)
        shows(row, "vmap", grads, expected, **cases[0].gradient_tolerance("float64"))


def test_checkpoint_in_a_loop():
    """Gradient accumulation: the loss of each part of the batch."""
    batch = make("3% hard", shape=(3, 6, 7))
    x, y = (jnp.asarray(array) for array in batch)
    loss = jax.checkpoint(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0))

    def total(x):
        def step(total, part):
            value = loss(*part)
            return total + value, value

        return jax.lax.scan(step, 0.0, (x, y))

    (value, values), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
    np.testing.assert_allclose(value, values.sum(), rtol=1e-15)
    assert_images(images_of(batch), values, grads)


def test_weights_are_differentiated_where_they_are_not_zero():
    """d value / d u_i is the weighted loss of the pixel over the number selected."""
    logits, labels = batch = make("40% hard")
    x, y = jnp.asarray(logits), jnp.asarray(labels)
    grad = jax.grad(lambda u: ohemloss.ohem_cross_entropy(x, y, pixel_weight=u))(jnp.ones(labels.shape))
    base = case_of(batch).expected.steps
    np.testing.assert_allclose(grad, base.pixel_loss * base.weights / base.count, rtol=1e-12)


def test_vmap_over_thresholds():
    batch = make("40% hard")
    x, y = (jnp.asarray(array) for array in batch)
    thresholds = (0.3, 0.6, 0.9)
    both = jax.value_and_grad(lambda x, t: ohemloss.ohem_cross_entropy(x, y, thresh=t))
    answers = jax.jit(jax.vmap(both, (None, 0)))(x, jnp.asarray(thresholds))
    for thresh, *answer in zip(thresholds, *answers, strict=True):
        assert_both(case_of(batch, thresh=thresh), *answer)


@pytest.mark.usefixtures("many_blocks")
class TestResized:
    """Where logits are resized in many blocks."""

    def test_forward_and_second_order(self):
        logits, labels = batch = make_small("3% hard", (2, 3, 2, 3), (6, 5))
        loss = loss_of(labels, resize="bilinear")
        direction = np.random.default_rng(0).normal(size=logits.shape) / 10
        case, x, v = case_of(batch, resize="bilinear"), jnp.asarray(logits), jnp.asarray(direction)
        again = jax.grad(lambda x: (jax.grad(loss)(x) * v).sum())
        (value, derivative), along = jax.jit(lambda x: (jax.jvp(loss, (x,), (v,)), again(x)))(x)
        np.testing.assert_allclose(value, case.expected.value, **case.value_tolerance("float64"))
        np.testing.assert_allclose(derivative, (case.expected.gradient * direction).sum(), rtol=1e-12)
        enlarged, far = (interpolate(array, (6, 5)) for array in (logits, direction))
        np.testing.assert_allclose(along, pull_back(curvature(enlarged, labels, far), (2, 3)), **CURVATURE)

    def test_vmap(self):
        batch = make_small()
        both = jax.value_and_grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0, resize="bilinear"))
        answers = jax.jit(jax.vmap(both))(*(jnp.asarray(array) for array in batch))
        assert_images(images_of(batch, resize="bilinear"), *answers)

    def test_checkpoint_and_a_traced_threshold(self):
        """As a step that anneals has it: one program for all thresholds."""
        batch = make_small()
        x, y = (jnp.asarray(array) for array in batch)
        loss = jax.checkpoint(lambda x, thresh: ohemloss.ohem_cross_entropy(x, y, thresh=thresh, resize="bilinear"))
        step = jax.jit(jax.value_and_grad(loss))
        for thresh in (0.3, 0.7):
            assert_both(case_of(batch, thresh=thresh, resize="bilinear"), *step(x, thresh))
        assert step._cache_size() == 1
