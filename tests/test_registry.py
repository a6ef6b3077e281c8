"""The look-up of a backend by the type of an array, and the contract with it."""

import dataclasses
import inspect
from importlib import metadata

import array_api_strict as xp
import numpy as np
import pytest

import ohemloss
from ohemloss import Backend, _backend, _composite, _engine, _kth, _registry, _total
from ohemloss._options import MAY_BE_ARRAYS, Options

STRICT = type(xp.zeros(1))
LOGITS, LABELS = xp.asarray([[0.0, 0.0], [0.0, 4.0]]), xp.asarray([0, 1])
VALUE = 0.6931471805599453


@pytest.fixture(autouse=True)
def clean_table(monkeypatch):
    """Forget what a test registers."""
    for table in ("_by_type", "_registered"):
        monkeypatch.setattr(_registry, table, dict(getattr(_registry, table)))


def serve(**functions):
    """Register a backend for the strict library."""
    backend = Backend(name="array_api_strict", namespace="array_api_strict", **functions)
    ohemloss.register(backend, STRICT)
    return backend


def backend_of(array):
    library = _registry.library_of(array)
    assert library is not None
    return library.backend


class TestLookUp:
    @pytest.mark.parametrize("name", ["cupy", "dask", "jax", "numpy", "torch"])
    def test_array_type_of_each_backend(self, name):
        """By the root module of a class in the type's MRO; no array is needed, so CuPy is tested without a GPU."""
        module = pytest.importorskip({"dask": "dask.array"}.get(name, name))
        kinds = {"cupy": "ndarray", "dask": "Array", "jax": "Array", "numpy": "ndarray", "torch": "Tensor"}
        array_type = getattr(module, kinds[name])
        found = [_registry._load(parent.__module__.partition(".")[0]) for parent in array_type.__mro__]
        assert next(backend for backend in found if backend is not None).name == name

    def test_subclass_of_a_registered_type(self):
        class Mine:
            shape, dtype = (), None

        class Special(Mine):
            pass

        backend = Backend(name="mine", namespace="array_api_strict")
        ohemloss.register(backend, Mine)
        assert backend_of(Special()) is backend

    def test_later_registration_reaches_subclasses_seen_before(self):
        class MyArray(np.ndarray):
            pass

        array = np.zeros(2).view(MyArray)
        before = backend_of(array)
        ohemloss.register(Backend(name="other", namespace="array_api_compat.numpy"), np.ndarray)
        assert (before.name, backend_of(array).name) == ("numpy", "other")

    def test_library_without_a_backend(self):
        assert backend_of(LOGITS) == Backend(name="array_api_strict", namespace="array_api_strict")

    def test_remembered(self, monkeypatch):
        ohemloss.ohem_cross_entropy(LOGITS, LABELS)
        monkeypatch.setattr(metadata, "entry_points", lambda **_: pytest.fail("looked up again"))
        ohemloss.ohem_cross_entropy(LOGITS, LABELS)

    def test_not_an_array_though_of_a_library(self):
        """The root module of a type tells the library, not that it is an array."""
        message = r"^`logits` must be an array of an array API library: got Generator\."
        with pytest.raises(TypeError, match=message):
            ohemloss.ohem_cross_entropy(np.random.default_rng(), np.zeros(1, int))

    def test_named(self):
        assert _registry.named("numpy").__name__ == "array_api_compat.numpy"
        assert _registry.named("array_api_strict") is xp
        with pytest.raises(ImportError, match="no_such_library"):
            _registry.named("no_such_library")

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            (
                ("a:backend", "b:backend"),
                RuntimeError,
                r"^two backends claim 'numpy': a:backend, b:backend\. Uninstall one of them\.$",
            ),
            (
                ("ohemloss:hard_mean",),
                TypeError,
                r"^entry point 'ohemloss:hard_mean' must be an `ohemloss\.Backend`: got function\.$",
            ),
        ],
    )
    def test_entry_points_that_are_refused(self, monkeypatch, values, error, message):
        points = [metadata.EntryPoint("numpy", value, "ohemloss.backends") for value in values]
        monkeypatch.setattr(metadata, "entry_points", lambda **_: points)
        with pytest.raises(error, match=message):
            _registry._load("numpy")


class TestRegister:
    def test_errors(self):
        with pytest.raises(TypeError, match=r"^`backend` must be an `ohemloss\.Backend`: got str\.$"):
            ohemloss.register("numpy", STRICT)
        backend = Backend(name="array_api_strict", namespace="array_api_strict")
        with pytest.raises(TypeError, match=r"^`types` must be types of arrays: got 3\.$"):
            ohemloss.register(backend, STRICT, 3)

    def test_whole_functions(self):
        backend = serve(loss=lambda *_: "loss", value_and_grad=lambda *_: ("value", "gradient"))
        assert ohemloss.ohem_cross_entropy(LOGITS, LABELS) == "loss"
        assert ohemloss.value_and_grad(LOGITS, LABELS) == ("value", "gradient")
        assert backend_of(LOGITS) is backend

    def test_not_implemented_runs_the_composite(self):
        calls = []
        decline = lambda *_: calls.append(1) or NotImplemented
        serve(loss=decline, value_and_grad=decline)
        assert float(ohemloss.ohem_cross_entropy(LOGITS, LABELS)) == pytest.approx(VALUE)
        assert float(ohemloss.value_and_grad(LOGITS, LABELS)[0]) == pytest.approx(VALUE)
        assert len(calls) == 2

    @pytest.mark.parametrize(
        "option",
        [
            *({"thresh": 0.6}, {"min_kept": 1}, {"ignore_index": None}, {"weight": (1.0, 1.0)}),
            *({"pixel_weight": xp.ones(2)}, {"positives": xp.asarray([True, False])}),
            *({"rule": ohemloss.MiningRule(ties="keep")}, {"label_smoothing": 0.1}, {"axis": 0}, {"reduction": "sum"}),
        ],
        ids=lambda option: next(iter(option)),
    )
    def test_option_that_a_backend_does_not_know(self, option):
        """It goes to the composite; it never silently does nothing. Once the backend knows it, it is passed on."""
        seen = {}

        def loss(engine, inputs, options):
            assert engine.xp is xp
            for part in (inputs, options):
                seen.update({field.name: getattr(part, field.name) for field in dataclasses.fields(part)})
            return "loss"

        (name,) = option
        logits = xp.permute_dims(LOGITS, (1, 0)) if name == "axis" else LOGITS
        serve(loss=loss)
        assert float(ohemloss.ohem_cross_entropy(logits, LABELS, **option)) > 0
        assert not seen
        serve(loss=loss, supports=frozenset({name}))
        assert ohemloss.ohem_cross_entropy(logits, LABELS, **option) == "loss"
        assert seen[name] is not None or option[name] is None

    def test_steps(self):
        """Replaced steps serve the loss, its gradient, `explain` and `hard_mean`."""
        calls = []
        serve(
            kth_largest=lambda *args: calls.append("kth") or _kth.kth_largest(*args),
            total=lambda *args: calls.append("total") or _total.total(*args),
        )
        ohemloss.ohem_cross_entropy(LOGITS, LABELS)
        ohemloss.value_and_grad(LOGITS, LABELS)
        ohemloss.explain(LOGITS, LABELS)
        ohemloss.hard_mean(xp.ones(3))
        assert calls == ["kth", "total"] * 4

    def test_host_view_decides_about_labels(self):
        wrong = xp.asarray([0, 7])
        serve(host_view=lambda array: None)
        assert np.isnan(float(ohemloss.ohem_cross_entropy(LOGITS, wrong)))
        serve(host_view=np.asarray)
        with pytest.raises(ValueError, match="of value 7"):
            ohemloss.ohem_cross_entropy(LOGITS, wrong)


class TestContract:
    """What a backend may rely on, and what ours must keep."""

    def test_a_backend_is_a_value(self):
        backend = Backend(name="a", namespace="array_api_strict")
        assert backend == Backend(name="a", namespace="array_api_strict")
        with pytest.raises(dataclasses.FrozenInstanceError):
            backend.name = "b"

    @pytest.mark.parametrize("name", ["cupy", "jax", "numpy", "torch"])
    def test_signatures_and_options(self, name):
        """Arrays positional-only, all else keyword-only, by the names of the protocols; and options that exist."""
        pytest.importorskip(name)
        backend = _registry._load(name)
        assert backend is not None
        protocols = {
            "loss": _backend.LossFunction,
            "value_and_grad": _backend.ValueAndGradFunction,
            "kth_largest": _engine.KthLargest,
            "total": _engine.Total,
        }
        for field, protocol in protocols.items():
            function = getattr(backend, field)
            if function is not None:
                expected = list(inspect.signature(protocol.__call__).parameters.values())[1:]
                actual = inspect.signature(function).parameters.values()
                assert [(p.name, p.kind) for p in actual] == [(p.name, p.kind) for p in expected]
        known = {field.name for field in dataclasses.fields(Options)} | {"weight", "pixel_weight", "positives"}
        assert backend.supports <= known | {f"{name} as an array" for name in MAY_BE_ARRAYS}

    def test_an_unreadable_array(self):
        """Lazy and traced arrays have no memory to look at."""
        array = np.zeros(1)
        assert _backend.host_view(array) is array
        assert _backend.host_view(object()) is None

    def test_composite_functions_take_validated_arguments(self):
        parameters = list(inspect.signature(_composite.loss).parameters)
        assert parameters == list(inspect.signature(_composite.value_and_grad).parameters)
