"""
The usual loss and its gradient in machine code, where Numba is installed: one pass over the logits each.

As `_kernels`, but a block is a few hundred pixels, which stay in the first-level cache, and what is done once a pixel
is done there too. Whatever needs more than float32, weights and the usual mining is left to `_kernels`.

Numba's own `exp` and `log` are calls into a library, one number at a time; the polynomials below are vectorised.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_float = np.float32
_INFINITY, _NAN = _float(np.inf), _float(np.nan)

# Pixels of one block; fewer where the exponentials that the backward pass holds would not fit the second-level cache.
_PIXELS, _LEAST, _ELEMENTS = 256, 64, 2**18
# Of a block: if fewer of its pixels have a gradient they are taken out first.
_SPARSE = 0.3

# exp(x) = 2**n * exp(r): adding 1.5 * 2**23 rounds to the integer n, which then lies in the lowest bits. n * log(2) is
# subtracted in two parts, of which the first has few enough bits for exact products.
_ROUNDER, _PER_LOG_2 = _float(12582912.0), _float(1.44269504088896341)
_LOG_2_HIGH, _LOG_2_LOW = _float(0.693359375), _float(-2.12194440054690583e-4)
# Below, the exponential is less than the smallest normal number, and taken as 0. Above it is taken as infinite, so that
# what is divided by a sum of exponentials stays a normal number.
_LARGEST, _SMALLEST = _float(60.0), _float(-87.3365447504019)


@intrinsic
def _bits(context, number):
    """Give the bits of a float32."""

    def emit(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), emit


@intrinsic
def _from_bits(context, bits):
    """Give the float32 of some bits."""

    def emit(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), emit


def _prefetcher(for_writing):
    """Make a function that asks for the cache line of an element; one beyond the end does no harm."""

    @intrinsic
    def prefetch(context, array, i):
        def emit(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            number = ir.IntType(32)
            function = builder.module.declare_intrinsic(
                "llvm.prefetch", [data.type], ir.FunctionType(ir.VoidType(), [data.type, number, number, number])
            )
            keep, data_and_not_code = 3, 1
            place = builder.gep(data, [arguments[1]])
            builder.call(function, [place, number(for_writing), number(keep), number(data_and_not_code)])
            return context.get_dummy_value()

        return types.void(array, types.intp), emit

    return prefetch


# A row of a block is too short for the processor to see what comes next: without these both kernels are a tenth slower.
_will_read, _will_write = _prefetcher(0), _prefetcher(1)
_LINE = 16  # elements of a cache line

# Multiplications and additions may be joined. Nothing else is relaxed: NaN and infinities mean something.
_SETTING = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def _jit(function):
    """Compile at the first call, and keep the machine code for the next process if there is a place for it."""
    try:
        return njit(cache=True, **_SETTING)(function)
    except RuntimeError:  # no folder to write to
        return njit(**_SETTING)(function)


_inline = njit(inline="always", error_model="numpy")


@_inline
def _exp(x):
    """Compute ``exp(x)`` to 2 units in the last place; infinite where `x` is above 60, or NaN."""
    rounded = x * _PER_LOG_2 + _ROUNDER
    n = rounded - _ROUNDER
    r = x - n * _LOG_2_HIGH
    r = r - n * _LOG_2_LOW
    # exp(r) = 1 + r + r * r * p(r), with the p of fourth degree that has the smallest largest error, 3e-9
    p = _float(1.381453988e-3)
    p = p * r + _float(8.368745127e-3)
    p = p * r + _float(4.166839079e-2)
    p = p * r + _float(1.666652040e-1)
    p = p * r + _float(4.999999343e-1)
    p = p * (r * r) + r + _float(1.0)
    power = _from_bits(_bits(p) + (_bits(rounded) << np.int32(23)))
    power = power if x >= _SMALLEST else _float(0.0)
    return power if x <= _LARGEST else _INFINITY


@_inline
def _log(x):
    """Compute ``log(x)`` of a finite number that is at least 1, to 2 units in the last place."""
    # x = 2**n * m with m from sqrt(1/2) to sqrt(2)
    shifted = _bits(x) - np.int32(0x3F3504F3)
    n = _float(shifted >> np.int32(23))
    m = _from_bits((shifted & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)) - _float(1.0)
    square = m * m
    p = _float(7.0376836292e-2)
    p = p * m + _float(-1.1514610310e-1)
    p = p * m + _float(1.1676998740e-1)
    p = p * m + _float(-1.2420140846e-1)
    p = p * m + _float(1.4249322787e-1)
    p = p * m + _float(-1.6668057665e-1)
    p = p * m + _float(2.0000714765e-1)
    p = p * m + _float(-2.4999993993e-1)
    p = p * m + _float(3.3333331174e-1)
    p = p * m * square + n * _LOG_2_LOW
    return (m - _float(0.5) * square + p) + n * _LOG_2_HIGH


# No array goes into an inlined function: it would be counted, by an atomic operation, at each call.
@_inline
def _loss_of(nll, label, y, scale, valid):
    """Weigh minus the logarithm of the probability of a label; `y` is another number if it is no class."""
    loss = scale * nll if scale != _float(0.0) else _float(0.0)
    loss = loss if label == y else _NAN
    return loss if valid else _float(0.0)


@_inline
def _share_of(loss, scale, cut, tie_weight, factor, valid):
    """Give what a pixel has of the gradient: `factor`, its weight in the selection, and its scale."""
    scale = scale * tie_weight if loss == cut else scale
    share = factor * scale if scale != _float(0.0) else _float(0.0)  # and not inf * 0
    share = share if loss == loss else _NAN
    share = share if not loss < cut else _float(0.0)
    return share if valid else _float(0.0)


@_jit
def _careful(x, start, row, n_classes):
    """Give the largest logit of a pixel, and the sum of the exponentials of the others less it."""
    largest = x[start]
    for c in range(1, n_classes):
        logit = x[start + c * row]
        if not logit <= largest:  # NaN stays
            largest = logit if largest == largest else largest
    total = _float(0.0)
    for c in range(n_classes):
        total += np.exp(x[start + c * row] - largest)
    return largest, total


@_jit
def forward(x, image, row, length, start, n_classes, labels, ignored, ignores, weight, pixel_weight, cut, losses):
    """
    Write the losses of some pixels; count the valid ones and the hard ones, and sum the losses of those.

    The pixels lie in rows of `length`: the logit of class c and pixel p is
    ``x[p // length * image + c * row + p % length]``. The first of these is number `start`, and `labels`, `losses` and
    `pixel_weight`, if it is not empty, begin with it. `weight` has one number for each class. Where `ignores` holds,
    `ignored` is the label of no class.
    """
    sums, own, index = np.empty(_PIXELS, np.float32), np.empty(_PIXELS, np.float32), np.empty(_PIXELS, np.int64)
    n_valid, n_hard, hard_sum, at = 0, 0, 0.0, 0
    while at < labels.size:
        column = (start + at) % length
        n = min(_PIXELS, length - column, labels.size - at)
        first = (start + at) // length * image + column
        for i in range(n):
            label = labels[at + i]
            index[i] = label if 0 <= label < n_classes else 0
            own[i] = x[first + index[i] * row + i]
            sums[i] = _float(0.0)
        for c in range(n_classes):
            for i in range(0, n, _LINE):
                _will_read(x, first + c * row + _PIXELS + i)
            logits = x[first + c * row : first + c * row + n]
            for i in range(n):
                sums[i] += _exp(logits[i] - own[i])
        for i in range(n):
            own[i] = _log(sums[i])
        for i in range(n):
            label = labels[at + i]
            valid = not (ignores and label == ignored)
            loss = own[i]
            if valid and not sums[i] < _INFINITY:
                largest, total = _careful(x, first + i, row, n_classes)
                loss = np.log(total) - (x[first + index[i] * row + i] - largest)
            scale = weight[index[i]]
            if pixel_weight.size:
                scale = scale * pixel_weight[at + i]
            loss = _loss_of(loss, label, index[i], scale, valid)
            losses[at + i] = loss
            hard = not loss <= cut  # NaN is hard
            n_valid += valid
            n_hard += hard
            hard_sum += np.float64(loss) if hard else 0.0
        at += n
    return n_valid, n_hard, hard_sum


@_jit
def backward(
    x,
    image,
    row,
    length,
    start,
    n_classes,
    labels,
    ignored,
    ignores,
    weight,
    pixel_weight,
    losses,
    cut,
    tie_weight,
    factor,
    out,
    out_image,
    out_row,
    is_zero,
):
    """
    Write the gradient of some pixels: `factor`, the weight of each in the selection, its scale, and d nll / d x.

    Arguments as in `forward`; the gradient may be known to hold zeros.
    """
    size = max(_LEAST, min(_PIXELS, _ELEMENTS // n_classes))
    exps = np.empty(n_classes * size, np.float32)
    sums, own, factors = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    pixels, index = np.empty(size, np.int64), np.empty(size, np.int64)
    at = 0
    while at < labels.size:
        column = (start + at) % length
        n = min(size, length - column, labels.size - at)
        first = (start + at) // length * image + column
        target = (start + at) // length * out_image + column
        n_selected = 0
        for i in range(n):
            label, loss = labels[at + i], losses[at + i]
            index[i] = label if 0 <= label < n_classes else 0
            scale = weight[index[i]]
            if pixel_weight.size:
                scale = scale * pixel_weight[at + i]
            share = _share_of(loss, scale, cut, tie_weight, factor, not (ignores and label == ignored))
            factors[i] = share
            pixels[n_selected] = i
            n_selected += share != _float(0.0)
        at += n
        dense = n_selected >= _SPARSE * n
        m = n if dense else n_selected
        if not dense:
            for c in range(0 if is_zero else n_classes):
                gradient = out[target + c * out_row : target + c * out_row + n]
                for i in range(n):
                    gradient[i] = _float(0.0)
            if not n_selected:
                continue
            for c in range(n_classes):
                for k in range(m):
                    _will_read(x, first + c * row + pixels[k])
                    _will_write(out, target + c * out_row + pixels[k])
        for k in range(m):
            i = k if dense else pixels[k]
            own[k] = x[first + index[i] * row + i]
            factors[k] = factors[i]
            index[k] = index[i]
            sums[k] = _float(0.0)
        for c in range(n_classes):
            here = exps[c * m : c * m + m]
            logits = x[first + c * row : first + c * row + n]
            if dense:
                for k in range(0, n, _LINE):
                    _will_read(x, first + c * row + size + k)
                    _will_write(out, target + c * out_row + k)
                for k in range(m):
                    exp = _exp(logits[k] - own[k])
                    here[k] = exp
                    sums[k] += exp
            else:
                for k in range(m):
                    here[k] = logits[pixels[k]]
                for k in range(m):
                    exp = _exp(here[k] - own[k])
                    here[k] = exp
                    sums[k] += exp
        finite = True
        for k in range(m):
            finite = finite and sums[k] < _INFINITY
            # (e_y / s - 1) * f as (e_y - s) * (f / s)
            exps[index[k] * m + k] = _float(1.0) - sums[k]
            own[k] = factors[k] / sums[k]
        if not finite:
            _repair(x, first, row, n_classes, index, factors, pixels, dense, m, exps, sums, own)
        for c in range(n_classes):
            here = exps[c * m : c * m + m]
            gradient = out[target + c * out_row : target + c * out_row + n]
            if dense:
                for k in range(m):
                    gradient[k] = here[k] * own[k]
            else:
                for k in range(m):
                    gradient[pixels[k]] = here[k] * own[k]


@_jit
def _repair(x, first, row, n_classes, index, factors, pixels, dense, m, exps, sums, own):
    """Do the pixels of a block again whose logits are too far apart, or not finite."""
    for k in range(m):
        if sums[k] < _INFINITY:
            continue
        i = k if dense else pixels[k]
        if factors[k] == _float(0.0):  # its logits may be anything
            for c in range(n_classes):
                exps[c * m + k] = _float(0.0)
            own[k] = _float(0.0)
            continue
        largest, total = _careful(x, first + i, row, n_classes)
        for c in range(n_classes):
            exps[c * m + k] = np.exp(x[first + c * row + i] - largest)
        exps[index[k] * m + k] -= total
        own[k] = factors[k] / total


def _converter(widens):
    """Make a function between float32 and the bits of float16, for which the processor has an instruction."""

    @intrinsic
    def convert(context, number):
        def emit(context, builder, signature, arguments):
            if widens:
                return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())
            return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

        return (types.float32(types.uint16) if widens else types.uint16(types.float32)), emit

    return convert


_from_half, _to_half = _converter(True), _converter(False)


@_jit
def widen(bits, is_bfloat, out):
    """Copy numbers of 16 bits, classes first, to float32."""
    for c in range(bits.shape[0]):
        row, values = bits[c], out[c]
        for i in range(row.size):
            values[i] = _from_bits(np.int32(row[i]) << np.int32(16)) if is_bfloat else _from_half(row[i])


@_jit
def narrow(values, is_bfloat, out):
    """Copy float32, classes first, to numbers of 16 bits, to nearest, ties to even."""
    for c in range(values.shape[0]):
        row, bits = values[c], out[c]
        for i in range(row.size):
            if is_bfloat:
                number = _bits(row[i])
                rounded = (number + np.int32(0x7FFF) + ((number >> np.int32(16)) & np.int32(1))) >> np.int32(16)
                bits[i] = np.uint16(rounded if row[i] == row[i] else np.int32(0x7FC0))
            else:
                bits[i] = _to_half(row[i])
