"""Every message: the argument, the rule, what came, and what to do."""

import re

import numpy as np
import pytest

import ohemloss
from tests._cases import make

CALLS = [ohemloss.ohem_cross_entropy, ohemloss.value_and_grad, ohemloss.explain]


@pytest.fixture(params=CALLS, ids=lambda call: call.__name__)
def call(request):
    return request.param


@pytest.fixture
def arrays(library):
    logits, labels = make(shape=(2, 3, 4))
    return library.asarray(logits, "float32"), library.asarray(labels)


def refuses(error, message):
    """The whole message, but for `...`."""
    pattern = re.escape(message).replace(re.escape("..."), ".*")
    return pytest.raises(error, match=f"^{pattern}$")


class TestArrays:
    def test_not_an_array(self, arrays, call):
        x, y = arrays
        for name, arguments in {"logits": ([[0.0]], y), "labels": (x, [0]), "pixel_weight": (x, y)}.items():
            options = {"pixel_weight": [1.0]} if name == "pixel_weight" else {}
            rest = "must be an array of an array API library: got list. Convert it to one first."
            with refuses(TypeError, f"`{name}` {rest}"):
                call(*arguments, **options)

    def test_another_library(self, library, arrays, call):
        """Each library against one that it is not."""
        import array_api_strict

        x, y = arrays
        theirs, name = (np.zeros((2, 3, 4), np.int64), "numpy")
        if library.package == "numpy":
            theirs, name = array_api_strict.asarray(theirs), "array_api_strict"
        message = (
            "`labels` must come from the library of `logits`: "
            f"got logits from {library.package} and labels from {name}. "
            "Convert one of them."
        )
        with refuses(TypeError, message):
            call(x, theirs)
        for name in ("weight", "pixel_weight"):
            with refuses(
                TypeError, f"`{name}` must come from the library of `logits`: got logits from ... and {name} from..."
            ):
                call(x, y, **{name: theirs})

    @pytest.mark.every_library
    def test_logits_dtype(self, library, arrays, call):
        _, y = arrays
        message = "`logits` must have a real floating dtype (...float32...): got ...int32.... Convert it first."
        with refuses(TypeError, message):
            call(library.asarray(np.zeros((2, 5, 3, 4)), "int32"), y)

    @pytest.mark.every_library
    @pytest.mark.parametrize("dtype", ["float32", "bool"])
    def test_labels_dtype(self, library, arrays, call, dtype):
        x, _ = arrays
        name = dtype if hasattr(library.xp, dtype) else "bool_"
        message = f"`labels` must have an integer dtype (...int32...): got ...{dtype}.... Convert it first."
        with refuses(TypeError, message):
            call(x, library.xp.astype(library.asarray(np.zeros((2, 3, 4)), "int32"), getattr(library.xp, name)))

    @pytest.mark.parametrize(("name", "shape"), [("weight", (5,)), ("pixel_weight", (2, 3, 4))])
    def test_weight_dtypes(self, library, arrays, call, name, shape):
        message = f"`{name}` must have a real floating dtype (...): got ...int32.... Convert it first."
        with refuses(TypeError, message):
            call(*arrays, **{name: library.asarray(np.ones(shape), "int32")})


PIXELS = "`labels` must have the shape of `logits` without the class axis 1"
HAS_AN_AXIS_OF_1 = "Remove the axis of length 1, or convert one-hot labels to class indices."
ANOTHER_RESOLUTION = (
    "Pass `axis=` if the classes are along another axis, "
    "or `resize='bilinear'` if the logits are of another resolution."
)
FOUR = (2, 5, 3, 4)
# The shapes of logits and labels, the options, and the message with both shapes in it.
SHAPES = [
    (FOUR, (2, 1, 3, 4), {}, f"{PIXELS}: got {{}}. {HAS_AN_AXIS_OF_1}"),
    (FOUR, (2, 6, 8), {}, f"{PIXELS}: got {{}}. {ANOTHER_RESOLUTION}"),
    (FOUR, (24,), {}, f"{PIXELS}: got {{}}."),
    *(
        (logits, labels, {"resize": resize}, f"{PIXELS}, but for the last {n} axes, for resize={resize!r}: got {{}}.")
        for resize, n, logits, labels in (
            ("bilinear", 2, FOUR, (3, 6, 8)),
            ("linear", 1, FOUR, (2, 6, 8)),
            ("linear", 1, FOUR, (6,)),
            ("bilinear", 2, FOUR, (2, 6)),
            ("trilinear", 3, (2, 5, 3), (2, 3)),
        )
    ),
    ((2, 5, 0, 4), (2, 6, 8), {"resize": "bilinear"}, "`logits` must have pixels to be resized: got {}."),
    *(
        (FOUR, (2, 3, 4), {"axis": axis}, f"`axis` must be an axis of `logits`: got axis={axis}, logits.shape={FOUR}.")
        for axis in (4, -5)
    ),
    ((), (), {}, "`logits` must have a class axis: got a 0-d array."),
    ((2, 0), (2,), {}, "`logits` must have at least one class along axis 1: got logits.shape=(2, 0)."),
]


class TestShapes:
    @pytest.mark.parametrize("row", SHAPES, ids=lambda row: f"{row[:3]}")
    def test_logits_and_labels(self, library, call, row):
        of_logits, of_labels, options, message = row
        x, y = library.asarray(np.zeros(of_logits), "float32"), library.asarray(np.zeros(of_labels, np.int64))
        with refuses(ValueError, message.format(f"logits.shape={of_logits}, labels.shape={of_labels}")):
            call(x, y, **options)

    def test_weight(self, library, arrays, call):
        message = "`weight` must have one number per class: got weight.shape={} for 5 classes."
        for shape in ((4,), (5, 1), ()):
            with refuses(ValueError, message.format(shape)):
                call(*arrays, weight=library.asarray(np.ones(shape), "float32"))
        with refuses(ValueError, message.format((4,))):
            call(*arrays, weight=(1, 2, 3, 4))

    @pytest.mark.parametrize("shape", [(2, 3, 5), (2, 2, 3, 4), (3,), (2, 1)])
    def test_pixel_weight(self, library, arrays, call, shape):
        message = (
            "`pixel_weight` must have the shape of `labels`, or one that broadcasts to it: "
            f"got pixel_weight.shape={shape}, labels.shape=(2, 3, 4)."
        )
        with refuses(ValueError, message):
            call(*arrays, pixel_weight=library.asarray(np.ones(shape), "float32"))


class TestLabelValues:
    @pytest.mark.skip_library("jax", "cupy", "torch-cuda", reason="does not look at labels")
    @pytest.mark.parametrize("dtype", ["int64", "int32"])
    def test_lists_values_and_their_number(self, library, call, dtype):
        dtype = "int32" if library.label_dtype == "int32" else dtype
        logits, labels = make(shape=(2, 3, 4), ignored=0)
        x = library.asarray(logits, "float32")
        labels[0, 0, 0] = 255
        hint = "Map them to a class, or pass the label to ignore as `ignore_index`."
        with refuses(ValueError, f"`labels` must lie in [0, 5): got 1 outside, of value 255. {hint}"):
            call(x, library.asarray(labels, dtype), ignore_index=None)
        labels[0, 0] = [-1, 5, 19, 200]
        labels[1, 0] = [-1, 7, 254, 0]
        found = "got 7 outside, of value -1, 5, 7, 19, 200, ...."
        with refuses(ValueError, f"`labels` must lie in [0, 5), or equal ignore_index=255: {found} {hint}"):
            call(x, library.asarray(labels, dtype))

    @pytest.mark.parametrize("dtype", ["uint32", "uint64"])
    def test_beyond_the_signed_integers(self, call, dtype):
        largest = np.iinfo(dtype).max
        with refuses(
            ValueError, f"`labels` must lie in [0, 2), or equal ignore_index=-1: got 2 outside, of value {largest}..."
        ):
            call(np.zeros((2, 2)), np.full(2, largest, dtype), ignore_index=-1)

    def test_all_wrong(self, call):
        """The largest label is a wrong one too."""
        with refuses(ValueError, "`labels` must lie in [0, 2)...: got 3 outside, of value 7, 9. Map..."):
            call(np.zeros((3, 2)), np.asarray([9, 7, 9]))


class TestDevices:
    """A device is never changed in silence."""

    def test_strict(self, call):
        import array_api_strict as xp

        x, y = xp.zeros((2, 3)), xp.zeros(2, dtype=xp.int64, device=xp.Device("device1"))
        message = (
            "`labels` must be on the device of `logits`: got logits on array_api_strict.Device('CPU_DEVICE') and "
            "labels on array_api_strict.Device('device1'). Move one of them."
        )
        with refuses(ValueError, message):
            call(x, y)
        with refuses(ValueError, "`weight` must be on the device of `logits`: got ...Move one of them."):
            call(x, xp.zeros(2, dtype=xp.int64), weight=xp.ones(3, device=xp.Device("device1")))

    def test_torch(self, call):
        torch = pytest.importorskip("torch")
        message = "`labels` must be on the device of `logits`: got logits on cpu and labels on meta. Move one of them."
        with refuses(ValueError, message):
            call(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64, device="meta"))


NAN = float("nan")
# The option, the error, the message, and what it came from.
OPTIONS = [
    ("thresh", ValueError, "`thresh` must lie in [0, 1], or None for no threshold: got {}.", (1.5, -0.1, NAN)),
    ("thresh", TypeError, "`thresh` must be a number, or None for no threshold: got {}.", ("0.7", True)),
    ("min_kept", ValueError, "`min_kept` as a count must not be negative: got {}.", (-1,)),
    (
        "min_kept",
        ValueError,
        "`min_kept` as a fraction must lie in [0, 1]: got {}. For a count pass an int, for instance `min_kept=int(n)`.",
        (1.5, NAN),
    ),
    (
        "min_kept",
        ValueError,
        "`min_kept` as a fraction must be 0 or at least 2**-20: got {}. For so few pass an int, a count.",
        (5e-7,),
    ),
    (
        "min_kept",
        TypeError,
        "`min_kept` must be an int (a count), a float (a fraction), or a function of the counts: got {}.",
        (None, True),
    ),
    ("ignore_index", TypeError, "`ignore_index` must be an int, or None to ignore no label: got {}.", (2.0, False)),
    ("label_smoothing", ValueError, "`label_smoothing` must lie in [0, 1]: got {}.", (1.1,)),
    ("label_smoothing", TypeError, "`label_smoothing` must be a number: got {}.", (None,)),
    ("axis", TypeError, "`axis` must be an int: got {}.", (None, 1.0)),
    ("reduction", ValueError, "`reduction` must be one of 'mean', 'sum', 'none': got {}.", ("avg", None)),
    (
        "resize",
        ValueError,
        "`resize` must be None or one of 'linear', 'bilinear', 'trilinear': got {}.",
        ("nearest", True),
    ),
    ("align_corners", TypeError, "`align_corners` must be True or False: got {}.", (1,)),
    (
        "align_corners",
        ValueError,
        "`align_corners` says how logits are resized, and `resize` is None: pass for instance 'bilinear'.",
        (True,),
    ),
    (
        "weight",
        TypeError,
        "`weight` must be an array, or a sequence of numbers: got {}.",
        ((1, "2"), (True, 2.0), "abc", 1.0),
    ),
]


class TestOptions:
    @pytest.mark.parametrize(("name", "error", "message", "values"), OPTIONS)
    def test_message(self, call, name, error, message, values):
        x, y = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
        for value in values:
            with refuses(error, message.format(repr(value))):
                call(x, y, **{name: value})
            with refuses(error, message.format(repr(value))):
                ohemloss.OhemCELoss(**{name: value})

    def test_what_a_batch_is_spread_over(self, call):
        """Each library has its own option for it, or none."""
        x, y = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
        message = "`{}` must be None for arrays of {}: got 'i'. {}."
        for name in ("axis_name", "process_group"):
            with refuses(TypeError, message.format(name, "numpy", "What is here is all")):
                call(x, y, **{name: "i"})
        torch = pytest.importorskip("torch")
        with refuses(TypeError, message.format("axis_name", "torch", "Pass `process_group`")):
            call(torch.tensor(x), torch.tensor(y), axis_name="i")
        jnp = pytest.importorskip("jax.numpy")
        with refuses(TypeError, message.format("process_group", "jax", "Pass `axis_name`")):
            call(jnp.asarray(x), jnp.asarray(y), process_group="i")

    def test_numpy_numbers_are_numbers(self, call):
        logits, labels = make()
        options = {"thresh": 0.5, "min_kept": 3, "ignore_index": 255, "axis": 1}
        kinds = {float: np.float64, int: np.int64}
        scalars = {name: kinds[type(value)](value) for name, value in options.items()}
        plain, converted = (_value(call(logits, labels, **kwargs)) for kwargs in (options, scalars))
        assert plain == converted

    def test_arrays_by_position_or_by_name_and_options_by_name(self, call):
        logits, labels = make("40% hard")
        assert _value(call(labels=labels, logits=logits)) == _value(call(logits, labels))
        with pytest.raises(TypeError, match="positional"):
            call(logits, labels, 0.7)


def _value(answer):
    answer = answer[0] if isinstance(answer, tuple) else answer
    return float(getattr(answer, "value", answer))
