"""
The usual loss and its gradient as Triton kernels: one pass over the logits each, and nothing that the host waits for.

Pixels are numbered in the order of the labels. Of each, `forward` leaves its loss, minus infinity where it is ignored:
that ranks below everything, so the k-th largest loss of the valid pixels is that of all of them. Each kernel that is of
use only if too few pixels are hard looks at the counts on the device, and returns at once if not.

Whatever is added as floats is added in a fixed order, so the same input gives the same bits. Counts are integers.
"""

import triton
import triton.language as tl

# Bits of one digit of the search for the k-th largest, and how many values such a digit has.
DIGIT_BITS = tl.constexpr(8)
DIGIT_VALUES = tl.constexpr(256)

# (NaN has no name here: Triton compares all that have one before each launch, and finds that NaN is no longer itself.)
_INFINITY = tl.constexpr(float("inf"))

# The sum of exponentials is shifted by the logit of the label, and so is the exponential of the loss: one pass, where
# a shift by the largest logit needs two. Above these limits a pixel is done again, carefully: what is divided by the
# sum must stay a normal number, and a loss that large has lost the digits that a softmax needs.
_LARGEST_SUM = tl.constexpr(1e26)
_LARGEST_NLL = tl.constexpr(60.0)


@triton.jit
def _place(p, length, middle, outer_stride, middle_stride, inner_stride):
    """Give where pixels are in an array; in 64 bits, since there may be more elements than 32 bits can count."""
    row = p // length
    outer = (row // middle).to(tl.int64) * outer_stride
    return outer + (row % middle).to(tl.int64) * middle_stride + (p % length).to(tl.int64) * inner_stride


@triton.jit
def _read_label(labels, place, inside, n_classes, ignore_index, IGNORES: tl.constexpr):
    """Give labels as classes, whether they count, and whether they are classes; no other is ever used as an index."""
    label = tl.load(labels + place, mask=inside, other=0).to(tl.int64)
    valid = inside
    if IGNORES:
        valid = valid & (label != ignore_index)
    known = (label >= 0) & (label < n_classes)
    return tl.where(known, label, 0), valid, known


@triton.jit
def _logits(x, class_stride, first, inside, n_classes, BLOCK_C: tl.constexpr, T: tl.constexpr):
    """Load some classes of all pixels: were some left out, each would be loaded by itself, and not four at a time."""
    c = first + tl.arange(0, BLOCK_C)
    mask = inside[:, None] & (c < n_classes)[None, :]
    return tl.load(x[:, None] + (c.to(tl.int64) * class_stride)[None, :], mask=mask, other=-_INFINITY).to(T), c


@triton.jit
def _scale(weight, pixel_weight, index, place, looked, T: tl.constexpr, WEIGHTED: tl.constexpr, SCALED: tl.constexpr):
    """Give what the loss of each pixel is multiplied by."""
    scale = tl.full(index.shape, 1.0, T)
    if SCALED:
        scale = tl.load(pixel_weight + place, mask=looked, other=1.0).to(T)
    if WEIGHTED:
        scale = scale * tl.load(weight + index, mask=looked, other=1.0)
    return scale


@triton.jit
def _selection(loss, cut, tie_weight):
    """Weigh each pixel."""
    last = tl.load(cut)
    return tl.where(loss <= last, tl.where(loss == last, tl.load(tie_weight), 0.0), 1.0)


@triton.jit
def _factor(loss, valid, scale, cut, tie_weight, divisor, cotangent):
    """Tell which pixels have a gradient, and by what their softmax less their label is multiplied."""
    selection, is_nan = _selection(loss, cut, tie_weight), loss != loss
    live = valid & (selection != 0) & ((scale != 0) | is_nan)
    factor = selection * (tl.load(cotangent) / tl.load(divisor)) * scale
    # A loss is NaN for what made it NaN then: an option, perhaps, that has changed since.
    return live, tl.where(is_nan, float("nan"), factor)


@triton.jit
def _careful_sum(x, class_stride, inside, n_classes, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, T: tl.constexpr):
    """Give the largest logit of each pixel, and the sum of the exponentials of all less it."""
    largest = tl.full([BLOCK_P], -_INFINITY, T)
    for first in range(0, n_classes, BLOCK_C):
        logit, _ = _logits(x, class_stride, first, inside, n_classes, BLOCK_C, T)
        here = tl.max(logit, axis=1)
        largest = tl.where(here > largest, here, largest)  # a maximum makes Triton 3.3 and 3.4 fail on the loop
    total = tl.zeros([BLOCK_P], T)
    for first in range(0, n_classes, BLOCK_C):
        logit, _ = _logits(x, class_stride, first, inside, n_classes, BLOCK_C, T)
        total += tl.sum(tl.exp(logit - largest[:, None]), axis=1)  # a NaN that the maximum left out is back here
    return largest, total


@triton.jit
def forward(
    logits,
    labels,
    weight,
    pixel_weight,
    cut,
    losses,
    nlls,
    counts,
    sums,
    n_pixels,
    n_classes,
    length,
    middle,
    x_outer,
    x_middle,
    x_inner,
    x_class,
    y_outer,
    y_middle,
    y_inner,
    u_outer,
    u_middle,
    u_inner,
    ignore_index,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """
    Write the loss of each pixel, in `nlls` also without its weights if it has any; count each block of pixels.

    `counts` gets the number of valid pixels of each block, then the number of hard ones; `sums` the sum of the losses
    of these. `cut` is the threshold in units of the loss; if it is NaN, so is each loss.
    """
    T: tl.constexpr = losses.dtype.element_ty
    block = tl.program_id(0)
    p = block * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = p < n_pixels
    place = _place(p, length, middle, y_outer, y_middle, y_inner)
    index, valid, known = _read_label(labels, place, inside, n_classes, ignore_index, IGNORES)
    looked = valid & known
    x = logits + _place(p, length, middle, x_outer, x_middle, x_inner)
    own = tl.load(x + index * x_class, mask=looked, other=0.0).to(T)
    total = tl.zeros([BLOCK_P], T)
    for first in range(0, n_classes, BLOCK_C):
        logit, _ = _logits(x, x_class, first, inside, n_classes, BLOCK_C, T)
        total += tl.sum(tl.exp(logit - own[:, None]), axis=1)
    nll = tl.log(total)
    careful = looked & ~(total <= _LARGEST_SUM)
    if tl.max(careful.to(tl.int32), axis=0) > 0:
        largest, total = _careful_sum(x, x_class, inside, n_classes, BLOCK_P, BLOCK_C, T)
        nll = tl.where(careful, tl.log(total) - (own - largest), nll)
    place = _place(p, length, middle, u_outer, u_middle, u_inner)
    scale = _scale(weight, pixel_weight, index, place, looked, T, WEIGHTED, SCALED)
    if WEIGHTED or SCALED:
        tl.store(nlls + p, nll, mask=inside)
    threshold = tl.load(cut)
    loss = scale * tl.where(scale != 0, nll, 0.0)  # 0 * inf would be NaN
    loss = tl.where(known, loss, float("nan"))
    loss = tl.where(threshold == threshold, loss, float("nan"))
    tl.store(losses + p, tl.where(valid, loss, -_INFINITY), mask=inside)
    hard = valid & ~(loss <= threshold)  # NaN is hard
    tl.store(counts + block, tl.sum(valid.to(tl.int32), axis=0))
    tl.store(counts + tl.num_programs(0) + block, tl.sum(hard.to(tl.int32), axis=0))
    tl.store(sums + block, tl.sum(tl.where(hard, loss, 0.0), axis=0))


@triton.jit
def tally(counts, sums, n_blocks, numerator, denominator, limit, tallied, hard_sum, BLOCK: tl.constexpr):
    """Count the pixels: the valid ones, the hard ones, and how many are kept at least; add the losses of the hard."""
    n_valid, n_hard = tl.zeros([BLOCK], tl.int64), tl.zeros([BLOCK], tl.int64)
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, n_blocks, BLOCK):
        i = first + tl.arange(0, BLOCK)
        mask = i < n_blocks
        n_valid += tl.load(counts + i, mask=mask, other=0)
        n_hard += tl.load(counts + n_blocks + i, mask=mask, other=0)
        total += tl.load(sums + i, mask=mask, other=0.0).to(tl.float64)
    valid = tl.sum(n_valid, axis=0)
    tl.store(tallied, valid)
    tl.store(tallied + 1, tl.sum(n_hard, axis=0))
    tl.store(tallied + 2, tl.minimum(valid * numerator // denominator, limit))
    tl.store(hard_sum, tl.sum(total, axis=0))


@triton.jit
def _too_few(tallied):
    """Tell whether fewer pixels are hard than must be kept."""
    return tl.load(tallied + 1) < tl.load(tallied + 2)


@triton.jit
def _keys(x, BITS: tl.constexpr):
    """Give unsigned integers that rise with floats: one zero, and NaN above everything."""
    if BITS == 32:
        bits = tl.where(x == 0, 0.0, x).to(tl.uint32, bitcast=True)
        keys = tl.where(bits >> 31 != 0, ~bits, bits | 0x80000000)
        return tl.where(x == x, keys, 0xFFFFFFFF)
    else:
        bits = tl.where(x == 0, 0.0, x).to(tl.uint64, bitcast=True)
        keys = tl.where(bits >> 63 != 0, ~bits, bits | 0x8000000000000000)
        return tl.where(x == x, keys, 0xFFFFFFFFFFFFFFFF)


@triton.jit
def _from_key(key, BITS: tl.constexpr):
    """Give the float of a key."""
    if BITS == 32:
        return tl.where(key >> 31 != 0, key ^ 0x80000000, ~key).to(tl.uint32).to(tl.float32, bitcast=True)
    else:
        return tl.where(key >> 63 != 0, key ^ 0x8000000000000000, ~key).to(tl.uint64).to(tl.float64, bitcast=True)


@triton.jit
def _walk(table, rank, N_DIGITS: tl.constexpr, BITS: tl.constexpr):
    """
    Find the first digits of the key of that rank from how often each digit was counted.

    Returns them, the rank among the keys that begin with them, and the number of these.
    """
    value = tl.arange(0, DIGIT_VALUES)
    prefix = (rank * 0).to(tl.uint32 if BITS == 32 else tl.uint64)
    n_equal = rank
    for digit in tl.static_range(N_DIGITS):
        n = tl.load(table + digit * DIGIT_VALUES + value).to(tl.int64)
        above = tl.sum(n, axis=0) - tl.cumsum(n, axis=0)
        chosen = (above < rank) & (rank <= above + n)
        found = tl.sum(tl.where(chosen, value, 0), axis=0)
        rank -= tl.sum(tl.where(chosen, above, 0), axis=0)
        n_equal = tl.sum(tl.where(chosen, n, 0), axis=0)
        prefix = (prefix << DIGIT_BITS) | found.to(prefix.dtype)
    return prefix, rank, n_equal


@triton.jit
def count_digits(
    losses, tallied, table, n_pixels, n_steps, DIGIT: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):
    """Count one digit of the keys that begin with the digits found so far. `table` holds zeros for it."""
    if _too_few(tallied):
        prefix, _, _ = _walk(table, tl.load(tallied + 2), DIGIT, BITS)
        n = tl.zeros([DIGIT_VALUES], tl.int32)
        for step in range(n_steps):
            p = (tl.program_id(0) * n_steps + step) * BLOCK + tl.arange(0, BLOCK)
            inside = p < n_pixels
            keys = _keys(tl.load(losses + p, mask=inside, other=0.0), BITS)
            if DIGIT > 0:
                inside = inside & ((keys >> (BITS - DIGIT * DIGIT_BITS)) == prefix)
            digits = (keys >> (BITS - (DIGIT + 1) * DIGIT_BITS)).to(tl.int32) & (DIGIT_VALUES - 1)
            n += tl.histogram(tl.where(inside, digits, 0), DIGIT_VALUES)
            n -= tl.where(tl.arange(0, DIGIT_VALUES) == 0, tl.sum((~inside).to(tl.int32), axis=0), 0)
        tl.atomic_add(table + DIGIT * DIGIT_VALUES + tl.arange(0, DIGIT_VALUES), n, mask=n != 0, sem="relaxed")


@triton.jit
def read_key(table, tallied, found, BITS: tl.constexpr):
    """Write the k-th largest number."""
    key, _, _ = _walk(table, tl.load(tallied + 2), BITS // DIGIT_BITS, BITS)
    tl.store(found, _from_key(key, BITS))


@triton.jit
def add_above(losses, tallied, table, sums, n_pixels, n_steps, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the losses above the k-th largest, each program some of them."""
    if _too_few(tallied):
        key, _, _ = _walk(table, tl.load(tallied + 2), BITS // DIGIT_BITS, BITS)
        kth = _from_key(key, BITS)
        total = tl.zeros([BLOCK], losses.dtype.element_ty)
        for step in range(n_steps):
            p = (tl.program_id(0) * n_steps + step) * BLOCK + tl.arange(0, BLOCK)
            x = tl.load(losses + p, mask=p < n_pixels, other=-_INFINITY)
            total += tl.where(x <= kth, 0.0, x)
        tl.store(sums + tl.program_id(0), tl.sum(total, axis=0))


@triton.jit
def finish(
    cut,
    tallied,
    hard_sum,
    table,
    sums,
    n_sums,
    value,
    numbers,
    count,
    MEAN: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the value, the number selected, and in `numbers` the cut, the weight of a tie, and the divisor."""
    T: tl.constexpr = value.dtype.element_ty
    total, n_selected = tl.load(hard_sum), tl.load(tallied + 1)
    threshold = tl.load(cut)
    tie_weight = tl.full([], 0.0, tl.float64)  # not a product with the sum, which may be NaN
    if _too_few(tallied):
        n_selected = tl.load(tallied + 2)
        key, places, n_equal = _walk(table, n_selected, BITS // DIGIT_BITS, BITS)
        threshold = _from_key(key, BITS)
        above = tl.zeros([BLOCK], tl.float64)
        for first in range(0, n_sums, BLOCK):
            i = first + tl.arange(0, BLOCK)
            above += tl.load(sums + i, mask=i < n_sums, other=0.0).to(tl.float64)
        total = tl.sum(above, axis=0) + places.to(tl.float64) * threshold.to(tl.float64)
        # Ignored pixels are minus infinity, too, and share nothing.
        n_equal = tl.minimum(n_equal, tl.load(tallied) - (n_selected - places))
        tie_weight = places.to(tl.float64) / n_equal.to(tl.float64)
    divisor = tl.full([], 1.0, tl.float64)
    if MEAN:
        divisor = tl.maximum(n_selected, 1).to(tl.float64)
    tl.store(value, (total / divisor).to(T))
    tl.store(numbers, threshold)
    tl.store(numbers + 1, tie_weight.to(T))
    tl.store(numbers + 2, divisor.to(T))
    tl.store(count, n_selected)


@triton.jit
def backward(
    logits,
    labels,
    weight,
    pixel_weight,
    losses,
    nlls,
    cut,
    tie_weight,
    divisor,
    cotangent,
    gradient,
    n_pixels,
    n_classes,
    length,
    middle,
    x_outer,
    x_middle,
    x_inner,
    x_class,
    y_outer,
    y_middle,
    y_inner,
    u_outer,
    u_middle,
    u_inner,
    g_outer,
    g_middle,
    g_inner,
    g_class,
    ignore_index,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """
    Write the gradient: (softmax - [class is the label]) * weight in the selection * scale * cotangent / divisor.

    Exactly 0 where a pixel is not selected, whatever its logits. A block without selected pixels reads none of them.
    """
    T: tl.constexpr = losses.dtype.element_ty
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = p < n_pixels
    place = _place(p, length, middle, y_outer, y_middle, y_inner)
    index, valid, known = _read_label(labels, place, inside, n_classes, ignore_index, IGNORES)
    loss = tl.load(losses + p, mask=inside, other=-_INFINITY)
    place = _place(p, length, middle, u_outer, u_middle, u_inner)
    scale = _scale(weight, pixel_weight, index, place, valid & known, T, WEIGHTED, SCALED)
    live, factor = _factor(loss, valid, scale, cut, tie_weight, divisor, cotangent)
    out = gradient + _place(p, length, middle, g_outer, g_middle, g_inner)
    G: tl.constexpr = gradient.dtype.element_ty
    if tl.max(live.to(tl.int32), axis=0) == 0:
        for first in range(0, n_classes, BLOCK_C):
            c = first + tl.arange(0, BLOCK_C)
            mask = inside[:, None] & (c < n_classes)[None, :]
            target = out[:, None] + (c.to(tl.int64) * g_class)[None, :]
            tl.store(target, tl.zeros([BLOCK_P, BLOCK_C], G), mask=mask)
    else:
        x = logits + _place(p, length, middle, x_outer, x_middle, x_inner)
        looked = live & known
        nll = loss
        if WEIGHTED or SCALED:
            nll = tl.load(nlls + p, mask=inside, other=0.0)
        shift = tl.load(x + index * x_class, mask=looked, other=0.0).to(T)
        log_sum, share = nll, tl.full([BLOCK_P], 1.0, T)
        careful = looked & ~(nll <= _LARGEST_NLL)
        if tl.max(careful.to(tl.int32), axis=0) > 0:
            largest, total = _careful_sum(x, x_class, inside, n_classes, BLOCK_P, BLOCK_C, T)
            shift = tl.where(careful, largest, shift)
            log_sum, share = tl.where(careful, 0.0, log_sum), tl.where(careful, 1.0 / total, 1.0)
        for first in range(0, n_classes, BLOCK_C):
            logit, c = _logits(x, x_class, first, inside, n_classes, BLOCK_C, T)
            softmax = tl.exp((logit - shift[:, None]) - log_sum[:, None]) * share[:, None]
            slope = softmax - (c[None, :] == index[:, None]).to(T)
            mask = inside[:, None] & (c < n_classes)[None, :]
            target = out[:, None] + (c.to(tl.int64) * g_class)[None, :]
            tl.store(target, tl.where(live[:, None], slope * factor[:, None], 0.0).to(G), mask=mask)
