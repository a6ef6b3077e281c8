"""
The loss of resized logits and its gradient as Triton kernels: the array at the size of the labels never exists.

Each axis of the pixels is cut into gaps. Gap i has the places of labels whose lower neighbour among the logits is
number i, so all pixels of a gap lie between the same two logits of an axis, and share what is loaded. A thread takes
one column of the pixels and walks down the rows of a gap: of what it loads, all of them have use.

The backward pass gathers: each logit has one program that adds what its pixels give, in an order that never changes.
"""

import triton
import triton.language as tl

from ._kernels import _INFINITY, _LARGEST_SUM, _factor, _read_label, _scale, _selection

_LOG2_E = tl.constexpr(1.4426950408889634)

# Sizes change from batch to batch, and the code would hardly: it is not compiled again for those that 16 divides. (With
# rows at known places neighbouring columns would be loaded together, and exchanged between threads then.)
_SIZES = [
    *("n_classes", "n_pixels", "height", "width", "n_rows", "n_columns", "n_tall", "n_wide"),
    *("row_scale", "row_offset", "row_unit", "column_scale", "column_offset", "column_unit"),
    *("y_image", "y_row", "u_image", "u_row"),
]


@triton.jit
def _position(place, scale, offset, INTEGER: tl.constexpr):
    """Give where places of labels are among the logits, in parts of a unit; see `ohemloss._resize.Taps`."""
    return tl.maximum(place.to(INTEGER) * scale + offset, 0)


@triton.jit
def _share(position, lower, unit, T: tl.constexpr):
    """Give how far positions are from their lower neighbour."""
    return (position - lower.to(position.dtype) * unit).to(T) * (1.0 / unit.to(T))


@triton.jit
def _first(gap, n_logits, n_labels, scale, offset, unit, INTEGER: tl.constexpr):
    """Give where gaps begin: the first place of labels with this lower neighbour, or with one beyond it."""
    first = tl.maximum(gap.to(INTEGER) * unit - offset + (scale - 1), 0) // tl.maximum(scale, 1)
    first = tl.minimum(first, n_labels).to(tl.int32)
    return tl.where(gap <= 0, 0, tl.where(gap >= n_logits, n_labels, first))


@triton.jit
def _between(lower, upper, share, TWO: tl.constexpr):
    """Interpolate, also with a share of 0: what is not finite shows. An axis that is not resized has one neighbour."""
    if TWO:
        return tl.fma(share, upper, (1.0 - share) * lower)
    else:
        return lower


@triton.jit
def _across(left, right, share, T: tl.constexpr, WIDE: tl.constexpr):
    """Interpolate between two columns of a row; every thread is at some logit, so no load is masked."""
    lower = tl.load(left).to(T)
    upper = lower
    if WIDE:
        upper = tl.load(right).to(T)
    return _between(lower, upper, share, WIDE)


@triton.jit
def _logit(a, b, c, d, share, row_share, T: tl.constexpr, WIDE: tl.constexpr, TALL: tl.constexpr):
    """Interpolate between the logits at four corners: in each of two rows, and then between these."""
    above = _across(a, b, share, T, WIDE)
    below = above
    if TALL:
        below = _across(c, d, share, T, WIDE)
    return _between(above, below, row_share, TALL)


@triton.jit
def _exp(x):
    """Take the exponential. Subnormal results are 0, which spares the three operations that would keep them."""
    return tl.exp2(x * _LOG2_E)


@triton.jit
def _careful_sum(a, b, c, d, class_stride, share, row_share, n_classes, T, WIDE: tl.constexpr, TALL: tl.constexpr):
    """Give the largest logit of each pixel, and the sum of the exponentials of all less it."""
    largest = tl.full([row_share.shape[0], share.shape[1]], -_INFINITY, T)
    at = tl.full([], 0, tl.int64)
    for _ in range(n_classes):
        largest = tl.maximum(largest, _logit(a + at, b + at, c + at, d + at, share, row_share, T, WIDE, TALL))
        at += class_stride
    total = tl.zeros(largest.shape, T)
    at = tl.full([], 0, tl.int64)
    for _ in range(n_classes):
        logit = _logit(a + at, b + at, c + at, d + at, share, row_share, T, WIDE, TALL)
        total += _exp(logit - largest)  # a NaN that the maximum left out is back here
        at += class_stride
    return largest, total


@triton.jit(do_not_specialize=_SIZES)
def forward_resized(
    logits,
    labels,
    weight,
    pixel_weight,
    cut,
    losses,
    norms,
    counts,
    sums,
    n_classes,
    n_pixels,
    height,
    width,
    n_rows,
    n_columns,
    row_scale,
    row_offset,
    row_unit,
    column_scale,
    column_offset,
    column_unit,
    x_image,
    x_row,
    x_column,
    x_class,
    y_image,
    y_row,
    y_column,
    u_image,
    u_row,
    u_column,
    ignore_index,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SCALED: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    LARGE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """
    Write the loss of each pixel, and what makes probabilities of its logits; count each block of pixels.

    As `forward` does. `norms` gets of each pixel the shift s, then of each pixel t: the softmax is exp((x - s) - t).
    (One number for both would lose the digits of t where logits are large.)
    """
    T: tl.constexpr = losses.dtype.element_ty
    INTEGER: tl.constexpr = tl.int64 if LARGE else tl.int32
    block = tl.program_id(0)
    n_blocks = tl.cdiv(n_columns, COLUMNS)
    gap, image = block // n_blocks % height, block // n_blocks // height
    column = ((block % n_blocks) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    position = _position(tl.minimum(column, n_columns - 1), column_scale, column_offset, INTEGER)
    left = (position // column_unit).to(tl.int32)
    share = _share(position, left, column_unit, T)
    right = tl.minimum(left + 1, width - 1).to(tl.int64) * x_column
    left = left.to(tl.int64) * x_column
    top = logits + image.to(tl.int64) * x_image + gap.to(tl.int64) * x_row
    bottom = top + (tl.minimum(gap + 1, height - 1) - gap).to(tl.int64) * x_row
    a, b, c, d = top + left, top + right, bottom + left, bottom + right
    first = _first(gap, height, n_rows, row_scale, row_offset, row_unit, INTEGER)
    last = _first(gap + 1, height, n_rows, row_scale, row_offset, row_unit, INTEGER)
    threshold = tl.load(cut)
    n_valid, n_hard, hard_sum = tl.full([], 0, tl.int32), tl.full([], 0, tl.int32), tl.full([], 0.0, tl.float64)
    for start in range(first, last, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        row_share = _share(_position(row, row_scale, row_offset, INTEGER), gap, row_unit, T)
        inside = (row < last) & (column < n_columns)
        place = image.to(tl.int64) * y_image + row.to(tl.int64) * y_row + column.to(tl.int64) * y_column
        index, valid, known = _read_label(labels, place, inside, n_classes, ignore_index, IGNORES)
        looked = valid & known
        at = index * x_class
        own = _logit(a + at, b + at, c + at, d + at, share, row_share, T, WIDE, TALL)
        total, at = tl.zeros([ROWS, COLUMNS], T), tl.full([], 0, tl.int64)
        for _ in range(n_classes):
            logit = _logit(a + at, b + at, c + at, d + at, share, row_share, T, WIDE, TALL)
            total += _exp(logit - own)
            at += x_class
        shift, log_sum = own, tl.log(total)
        nll = log_sum
        careful = looked & ~(total <= _LARGEST_SUM)
        if tl.max(careful.to(tl.int32)) > 0:
            largest, total = _careful_sum(a, b, c, d, x_class, share, row_share, n_classes, T, WIDE, TALL)
            shift, log_sum = tl.where(careful, largest, shift), tl.where(careful, tl.log(total), log_sum)
            nll = tl.where(careful, log_sum - (own - largest), nll)
        place = image.to(tl.int64) * u_image + row.to(tl.int64) * u_row + column.to(tl.int64) * u_column
        scale = _scale(weight, pixel_weight, index, place, looked, T, WEIGHTED, SCALED)
        loss = scale * tl.where(scale != 0, nll, 0.0)  # 0 * inf would be NaN
        loss = tl.where(known, loss, float("nan"))
        loss = tl.where(threshold == threshold, loss, float("nan"))
        p = (image * n_rows + row) * n_columns + column
        tl.store(losses + p, tl.where(valid, loss, -_INFINITY), mask=inside)
        tl.store(norms + p, shift, mask=inside)
        tl.store(norms + n_pixels.to(tl.int64) + p, log_sum, mask=inside)
        hard = valid & ~(loss <= threshold)  # NaN is hard
        n_valid += tl.sum(valid.to(tl.int32))
        n_hard += tl.sum(hard.to(tl.int32))
        hard_sum += tl.sum(tl.where(hard, loss, 0.0)).to(tl.float64)
    tl.store(counts + block, n_valid)
    tl.store(counts + tl.num_programs(0) + block, n_hard)
    tl.store(sums + block, hard_sum.to(T))


@triton.jit
def _add_up(values, first, last, K: tl.constexpr):
    """Add up the columns of each cell, from `first` to before `last` and K at a time; those that are here."""
    BLOCK_C: tl.constexpr = values.shape[0]
    CELLS: tl.constexpr = first.shape[0]
    first, last = tl.maximum(first, 0), tl.minimum(last, values.shape[1])
    total = tl.zeros([BLOCK_C, CELLS], values.dtype)
    for past in range(0, tl.max(last - first), K):
        at = first[:, None] + past + tl.arange(0, K)[None, :]
        wanted = tl.reshape(at < last[:, None], [1, CELLS * K])
        at = tl.broadcast_to(tl.where(wanted, tl.reshape(at, [1, CELLS * K]), 0), [BLOCK_C, CELLS * K])
        picked = tl.where(wanted, tl.gather(values, at, 1), 0.0)
        total += tl.sum(tl.reshape(picked, [BLOCK_C, CELLS, K]), axis=2)
    return total


@triton.jit(do_not_specialize=_SIZES)
def backward_resized(
    logits,
    labels,
    weight,
    pixel_weight,
    losses,
    norms,
    cut,
    tie_weight,
    divisor,
    cotangent,
    gradient,
    n_classes,
    n_pixels,
    height,
    width,
    n_rows,
    n_columns,
    row_scale,
    row_offset,
    row_unit,
    column_scale,
    column_offset,
    column_unit,
    n_tall,
    n_wide,
    x_image,
    x_row,
    x_column,
    x_class,
    y_image,
    y_row,
    y_column,
    u_image,
    u_row,
    u_column,
    g_image,
    g_row,
    g_column,
    g_class,
    ignore_index,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SCALED: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    LARGE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CELLS: tl.constexpr,
    K: tl.constexpr,
):
    """
    Write the gradient of each logit, a cell: of `n_tall` rows of `n_wide` cells and some classes in a program.

    Of a pixel it is (softmax - [class is the label]) * weight in the selection * scale * cotangent / divisor, and each
    of its neighbours takes its share. What no pixel that is selected looks at is exactly 0. A program has a thread for
    each column of pixels that its cells are neighbours of, and adds up the rows of a gap before it adds up columns. Are
    there too many columns for that, it has one row of cells, and takes some columns after others.
    """
    T: tl.constexpr = losses.dtype.element_ty
    INTEGER: tl.constexpr = tl.int64 if LARGE else tl.int32
    program = tl.program_id(0)
    n_blocks = tl.cdiv(n_classes, BLOCK_C)
    c = ((program % n_blocks) * BLOCK_C + tl.arange(0, BLOCK_C))[:, None]
    program = program // n_blocks
    n_blocks = tl.cdiv(width, n_wide)
    first_cell = (program % n_blocks) * n_wide
    program = program // n_blocks
    n_blocks = tl.cdiv(height, n_tall)
    first_row, image = (program % n_blocks) * n_tall, program // n_blocks

    cell = first_cell + tl.arange(0, CELLS)
    ours = (cell < first_cell + n_wide) & (cell < width)
    lower = _first(cell, width, n_columns, column_scale, column_offset, column_unit, INTEGER)
    lower_end = _first(cell + 1, width, n_columns, column_scale, column_offset, column_unit, INTEGER)
    upper, upper_end = lower, lower
    if WIDE:
        upper = _first(cell - 1, width, n_columns, column_scale, column_offset, column_unit, INTEGER)
        upper_end = tl.where(cell == width - 1, n_columns, lower)  # beyond the last one both neighbours are the last
    begin, end = tl.min(tl.where(ours, upper, n_columns)), tl.max(tl.where(ours, lower_end, 0))
    lower_end, upper_end = tl.where(ours, lower_end, 0), tl.where(ours, upper_end, 0)
    first_gap, last_row = first_row, tl.minimum(first_row + n_tall, height)
    if TALL:
        first_gap = tl.maximum(first_row - 1, 0)  # it gives to the first row, too

    total = tl.zeros([BLOCK_C, CELLS], T)
    for start in range(begin, tl.maximum(end, begin + 1), COLUMNS):  # once for those that no pixel looks at, too
        column = (start + tl.arange(0, COLUMNS))[None, :]
        position = _position(tl.minimum(column, n_columns - 1), column_scale, column_offset, INTEGER)
        left = (position // column_unit).to(tl.int32)
        share = _share(position, left, column_unit, T)
        right = tl.minimum(left + 1, width - 1).to(tl.int64) * x_column
        x = logits + image.to(tl.int64) * x_image + tl.minimum(c, n_classes - 1).to(tl.int64) * x_class
        left, right = x + left.to(tl.int64) * x_column, x + right
        before, high = tl.full([], 0, tl.int32), tl.zeros([BLOCK_C, COLUMNS], T)
        below = high
        for step in range(last_row - first_gap):
            gap = first_gap + step
            first = _first(gap, height, n_rows, row_scale, row_offset, row_unit, INTEGER)
            last = _first(gap + 1, height, n_rows, row_scale, row_offset, row_unit, INTEGER)
            low = high
            high = tl.zeros([BLOCK_C, COLUMNS], T)
            some = tl.full([], 0, tl.int32)
            for start_row in range(first, last, ROWS):
                row = (start_row + tl.arange(0, ROWS))[:, None]
                p = (image * n_rows + row) * n_columns + column
                loss = tl.load(losses + p, mask=(row < last) & (column < end), other=-_INFINITY)
                some = tl.maximum(some, tl.max((_selection(loss, cut, tie_weight) != 0).to(tl.int32)))
            if some > 0:
                above = below  # of the gap before
                if before == 0:
                    at = gap.to(tl.int64) * x_row
                    above = _across(left + at, right + at, share, T, WIDE)
                if TALL:
                    at = tl.minimum(gap + 1, height - 1).to(tl.int64) * x_row
                    below = _across(left + at, right + at, share, T, WIDE)
                for next_row in range(last - first):
                    row = first + next_row
                    p = (image * n_rows + row) * n_columns + column
                    loss = tl.load(losses + p, mask=column < end, other=-_INFINITY)
                    shift = tl.load(norms + p, mask=column < end, other=0.0)
                    log_sum = tl.load(norms + n_pixels.to(tl.int64) + p, mask=column < end, other=0.0)
                    place = image.to(tl.int64) * y_image + row.to(tl.int64) * y_row + column.to(tl.int64) * y_column
                    index, valid, known = _read_label(labels, place, column < end, n_classes, ignore_index, IGNORES)
                    place = image.to(tl.int64) * u_image + row.to(tl.int64) * u_row + column.to(tl.int64) * u_column
                    scale = _scale(weight, pixel_weight, index, place, valid & known, T, WEIGHTED, SCALED)
                    live, factor = _factor(loss, valid, scale, cut, tie_weight, divisor, cotangent)
                    # What is infinite would be NaN at some of the neighbours alone.
                    factor = tl.where(live, tl.where(tl.abs(factor) < _INFINITY, factor, float("nan")), 0.0)
                    row_share = _share(_position(row, row_scale, row_offset, INTEGER), gap, row_unit, T)
                    logit = _between(above, below, row_share, TALL)
                    softmax = tl.exp2(tl.fma(logit - shift, _LOG2_E, -log_sum * _LOG2_E))
                    slope = tl.where(c == index.to(tl.int32), softmax - 1.0, softmax)
                    slope = tl.where(live, slope, 0.0)  # and not a product alone: 0 * NaN would be NaN
                    if TALL:
                        low = tl.fma(slope, factor * (1.0 - row_share), low)
                        high = tl.fma(slope, factor * row_share, high)
                    else:
                        low = tl.fma(slope, factor, low)
            if TALL:
                low = tl.where(gap == height - 1, low + high, low)  # beyond the last row both neighbours are the last
            if gap >= first_row:
                cells = total
                if some + before > 0:
                    if WIDE:
                        cells += _add_up((1.0 - share) * low, lower - start, lower_end - start, K)
                        cells += _add_up(share * low, upper - start, upper_end - start, K)
                    else:
                        cells += _add_up(low, lower - start, lower_end - start, K)
                target = image.to(tl.int64) * g_image + gap.to(tl.int64) * g_row + cell.to(tl.int64)[None, :] * g_column
                target = gradient + target + c.to(tl.int64) * g_class
                tl.store(target, cells.to(gradient.dtype.element_ty), mask=ours[None, :] & (c < n_classes))
                if n_tall == 1:
                    total = cells  # where one row is all there is room for, the next columns add to it
            if TALL:
                before = some
