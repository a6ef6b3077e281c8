"""
As `_fused`, of logits that are interpolated on the way: what is enlarged is gone when its block is.

The pixels of a block are in the order of `_cells.Cells`, where those at the same place of their cells are neighbours:
all that is done once a class runs along memory, and looks nothing up.

Numba keeps machine code until *this* file changes: whoever changes what it takes from `_fused` should touch it, too.
"""

# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False, disallow-untyped-defs=False

import numpy as np

from ._fused import _INFINITY, _NAN, _SPARSE, _careful, _exp, _float, _jit, _log, _loss_of, _share_of


@_jit
def forward(
    small,
    rows,
    shares,
    lower,
    upper,
    below,
    above,
    column,
    phase,
    position,
    starts,
    group,
    step,
    labels,
    ignored,
    ignores,
    weight,
    pixel_weight,
    cut,
    losses,
):
    """
    Write the losses of the pixels of some rows; count the valid ones and the hard ones, and sum the losses of those.

    `small` has three axes: classes, rows, columns. Row r of the labels lies between its rows ``rows[r]``, which have
    the shares ``shares[r]``. From `lower` to `starts` see `_cells.Cells`, of `group` rows; a block has `step` cells of
    these. The rest is as in `_fused.forward`.
    """
    n_classes, n_phases, width = small.shape[0], below.shape[0], starts[lower.size]
    sides, between = _sides(small, lower, upper), np.empty((n_classes, 2, step), np.float32)
    size = n_phases * step
    here, sums, own = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    index, slots, one = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(n_classes, np.float32)
    n_valid, n_hard, hard_sum = 0, 0, 0.0
    for first in range(0, rows.shape[0], group):
        n_cells = min(group, rows.shape[0] - first) * lower.size
        for begin in range(0, n_cells, step):
            end = min(begin + step, n_cells)
            m, n = end - begin, n_phases * (end - begin)
            at, n_pixels = first * width + starts[begin], starts[end] - starts[begin]
            _find_slots(phase, position, starts[begin], n_pixels, begin, m, slots)
            _between_rows(sides, rows, shares, first, begin, end, between)
            _read_labels(labels[first * width :], column, below, above, begin, m, between, index, own)
            for i in range(n):
                sums[i] = _float(0.0)
            for c in range(n_classes):
                _between_columns(between[c], below, above, begin, m, here)
                for i in range(n):
                    sums[i] += _exp(here[i] - own[i])
            n_far = 0
            for i in range(n):
                own[i] = _log(sums[i])
                n_far += not sums[i] < _INFINITY
            for p in range(n_pixels if n_far else 0):
                i = slots[p]
                if not sums[i] < _INFINITY and not (ignores and labels[at + p] == ignored):
                    k = i % m
                    _one_pixel(between, k, below[i // m, begin + k], above[i // m, begin + k], one)
                    largest, total = _careful(one, 0, 1, n_classes)
                    own[i] = np.log(total) - (one[index[i]] - largest)
            some, out = labels[at : at + n_pixels], losses[at : at + n_pixels]
            for p in range(n_pixels):
                label = some[p]
                valid = not (ignores and label == ignored)
                y = label if 0 <= label < n_classes else 0
                scale = weight[y]
                if pixel_weight.size:
                    scale = scale * pixel_weight[at + p]
                out[p] = _loss_of(own[slots[p]], label, y, scale, valid)
                n_valid += valid
            # Apart, since a sum in a fixed order is all that keeps the loop before from being vectorised.
            for p in range(n_pixels):
                loss = out[p]
                hard = not loss <= cut  # NaN is hard
                n_hard += hard
                hard_sum += np.float64(loss) if hard else 0.0
    return n_valid, n_hard, hard_sum


@_jit
def backward(
    small,
    rows,
    shares,
    lower,
    upper,
    below,
    above,
    column,
    phase,
    position,
    starts,
    group,
    step,
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
):
    """Add the gradient of the pixels of some rows to `out`, that of `small`. See `forward` and `_fused.backward`."""
    n_classes, n_phases, width = small.shape[0], below.shape[0], starts[lower.size]
    sides, between = _sides(small, lower, upper), np.empty((n_classes, 2, step), np.float32)
    found, made = np.zeros(sides.shape, np.float32), np.empty((2, step), np.float32)
    size = n_phases * step
    exps, one = np.empty(n_classes * size, np.float32), np.empty(n_classes, np.float32)
    sums, own, factors = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    index, slots, pixels = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    cell, low, high = np.empty(size, np.int64), np.empty(size, np.float32), np.empty(size, np.float32)
    for first in range(0, rows.shape[0], group):
        n_cells = min(group, rows.shape[0] - first) * lower.size
        for begin in range(0, n_cells, step):
            end = min(begin + step, n_cells)
            m = end - begin
            at, n_pixels = first * width + starts[begin], starts[end] - starts[begin]
            n_selected = 0
            some, kept = labels[at : at + n_pixels], losses[at : at + n_pixels]
            for p in range(n_pixels):
                label = some[p]
                valid = not (ignores and label == ignored)
                y = label if 0 <= label < n_classes else 0
                scale = weight[y]
                if pixel_weight.size:
                    scale = scale * pixel_weight[at + p]
                share = _share_of(kept[p], scale, cut, tie_weight, factor, valid)
                # What is not finite makes NaN of all classes, as in the composite.
                sums[p] = share if share - share == _float(0.0) else _NAN
                pixels[n_selected] = p
                n_selected += share != _float(0.0)
            if not n_selected:
                continue
            _find_slots(phase, position, starts[begin], n_pixels, begin, m, slots)
            _between_rows(sides, rows, shares, first, begin, end, between)
            dense = n_selected >= _SPARSE * n_pixels
            n = n_phases * m if dense else n_selected
            if dense:
                _read_labels(labels[first * width :], column, below, above, begin, m, between, index, own)
                for i in range(n):
                    factors[i] = _float(0.0)  # of what is no pixel
                for p in range(n_pixels):
                    factors[slots[p]] = sums[p]
            else:
                for i in range(n):
                    p = pixels[i]
                    j, k = slots[p] // m, slots[p] % m
                    label = labels[at + p]
                    y = label if 0 <= label < n_classes else 0
                    a, b = below[j, begin + k], above[j, begin + k]
                    cell[i], low[i], high[i], index[i], factors[i] = k, a, b, y, sums[p]
                    own[i] = a * between[y, 0, k] + b * between[y, 1, k]
            for i in range(n):
                sums[i] = _float(0.0)
            for c in range(n_classes):
                here = exps[c * n : c * n + n]
                if dense:
                    _between_columns(between[c], below, above, begin, m, here)
                else:
                    for i in range(n):
                        here[i] = low[i] * between[c, 0, cell[i]] + high[i] * between[c, 1, cell[i]]
                for i in range(n):
                    exp = _exp(here[i] - own[i])
                    here[i] = exp
                    sums[i] += exp
            n_far = 0
            for i in range(n):
                n_far += not sums[i] < _INFINITY
                # (e_y / s - 1) * f as (e_y - s) * (f / s)
                exps[index[i] * n + i] = _float(1.0) - sums[i]
                own[i] = factors[i] / sums[i]
            for i in range(n if n_far else 0):
                if sums[i] < _INFINITY:
                    continue
                own[i] = _float(0.0)
                for c in range(n_classes):
                    exps[c * n + i] = _float(0.0)
                if factors[i] == _float(0.0):  # its logits may be anything
                    continue
                if dense:
                    k = i % m
                    _one_pixel(between, k, below[i // m, begin + k], above[i // m, begin + k], one)
                else:
                    _one_pixel(between, cell[i], low[i], high[i], one)
                largest, total = _careful(one, 0, 1, n_classes)
                for c in range(n_classes):
                    exps[c * n + i] = np.exp(one[c] - largest)
                exps[index[i] * n + i] -= total
                own[i] = factors[i] / total
            for c in range(n_classes):
                here = exps[c * n : c * n + n]
                made[:, :m] = _float(0.0)
                if dense:
                    _to_cells(here, own, below, above, begin, m, made)
                else:
                    for i in range(n):
                        gradient = here[i] * own[i]
                        made[0, cell[i]] += low[i] * gradient
                        made[1, cell[i]] += high[i] * gradient
                _to_rows(made, rows, shares, first, begin, end, found[c])
    _to_columns(found, lower, upper, out)


@_jit
def _sides(small, lower, upper):
    """Look up the logits on both sides of each cell: classes, rows, sides, cells. A side that is missing is 0."""
    out = np.zeros((small.shape[0], small.shape[1], 2, lower.size), np.float32)
    for c in range(small.shape[0]):
        for r in range(small.shape[1]):
            row, target = small[c, r], out[c, r]
            for k in range(lower.size):
                target[0, k] = row[lower[k]]
            for k in range(upper.size):
                target[1, k] = row[upper[k]]
    return out


@_jit
def _to_columns(found, lower, upper, out):
    """Add what both sides of each cell have found, the transpose of `_sides`."""
    for c in range(out.shape[0]):
        for r in range(out.shape[1]):
            row, source = out[c, r], found[c, r]
            for k in range(lower.size):
                row[lower[k]] += source[0, k]
            for k in range(upper.size):
                row[upper[k]] += source[1, k]


@_jit
def _find_slots(phase, position, start, n_pixels, begin, m, slots):
    """Say where the pixels of a block are in the order of its cells."""
    phase, position = phase[start : start + n_pixels], position[start : start + n_pixels]
    for p in range(n_pixels):
        slots[p] = phase[p] * m + position[p] - begin


@_jit
def _between_rows(sides, rows, shares, first, begin, end, out):
    """Interpolate cells of some rows of the labels, which follow each other, from the rows they lie between."""
    n_cells = sides.shape[3]
    for row in range(begin // n_cells, (end - 1) // n_cells + 1):
        start, stop = max(begin, row * n_cells), min(end, (row + 1) * n_cells)
        low, high, to, n = start - row * n_cells, stop - row * n_cells, start - begin, stop - start
        for c in range(sides.shape[0]):
            below, above = out[c, 0, to : to + n], out[c, 1, to : to + n]
            s, first_row = shares[first + row, 0], sides[c, rows[first + row, 0]]
            a, b = first_row[0, low:high], first_row[1, low:high]
            if rows.shape[1] == 1:
                for k in range(n):
                    below[k], above[k] = a[k], b[k]
                continue
            t, second_row = shares[first + row, 1], sides[c, rows[first + row, 1]]
            u, v = second_row[0, low:high], second_row[1, low:high]
            for k in range(n):
                below[k] = s * a[k] + t * u[k]
                above[k] = s * b[k] + t * v[k]
            for tap in range(2, rows.shape[1]):
                s, next_row = shares[first + row, tap], sides[c, rows[first + row, tap]]
                a, b = next_row[0, low:high], next_row[1, low:high]
                for k in range(n):
                    below[k] += s * a[k]
                    above[k] += s * b[k]


@_jit
def _to_rows(made, rows, shares, first, begin, end, out):
    """Add what cells of some rows of the labels have found to the rows they lie between."""
    n_cells = out.shape[2]
    for row in range(begin // n_cells, (end - 1) // n_cells + 1):
        start, stop = max(begin, row * n_cells), min(end, (row + 1) * n_cells)
        low, high, at, n = start - row * n_cells, stop - row * n_cells, start - begin, stop - start
        a, b = made[0, at : at + n], made[1, at : at + n]
        for tap in range(rows.shape[1]):
            share, target = shares[first + row, tap], out[rows[first + row, tap]]
            below, above = target[0, low:high], target[1, low:high]
            for k in range(n):
                below[k] += share * a[k]
                above[k] += share * b[k]


@_jit
def _between_columns(between, below, above, begin, m, out):
    """Interpolate the pixels of cells from both sides of these."""
    low, high = between[0, :m], between[1, :m]
    for j in range(below.shape[0]):
        target, a, b = out[j * m : j * m + m], below[j, begin : begin + m], above[j, begin : begin + m]
        for k in range(m):
            target[k] = a[k] * low[k] + b[k] * high[k]


@_jit
def _to_cells(exps, scales, below, above, begin, m, out):
    """Add the gradient of the pixels of cells to both sides of these."""
    low, high = out[0, :m], out[1, :m]
    for j in range(below.shape[0]):
        values, factors = exps[j * m : j * m + m], scales[j * m : j * m + m]
        a, b = below[j, begin : begin + m], above[j, begin : begin + m]
        for k in range(m):
            gradient = values[k] * factors[k]
            low[k] += a[k] * gradient
            high[k] += b[k] * gradient


@_jit
def _read_labels(labels, column, below, above, begin, m, between, index, own):
    """Read the class of each pixel of cells, and interpolate its logit."""
    n_classes = between.shape[0]
    for j in range(below.shape[0]):
        a, b, columns = below[j, begin : begin + m], above[j, begin : begin + m], column[j, begin : begin + m]
        classes, logits = index[j * m : j * m + m], own[j * m : j * m + m]
        for k in range(m):
            label = labels[columns[k]]
            y = label if 0 <= label < n_classes else 0
            classes[k] = y
            logits[k] = a[k] * between[y, 0, k] + b[k] * between[y, 1, k]


@_jit
def _one_pixel(between, k, below, above, out):
    """Interpolate all logits of one pixel of a cell."""
    for c in range(between.shape[0]):
        out[c] = below * between[c, 0, k] + above * between[c, 1, k]
