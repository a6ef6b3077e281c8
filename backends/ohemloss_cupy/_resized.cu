
// ---- logits of another resolution -----------------------------------------------------------------------------------

// The loss of interpolated logits, from the logits as they came: the enlarged array never exists. This goes after
// _kernels.cu. RESIZED says which axes are interpolated: 1 the columns, 2 the rows, 3 both; 0 leaves all of this out.
#if RESIZED
#define ROWS (RESIZED >= 2)
#define COLUMNS (RESIZED % 2)

// How many blocks shall run at a time on a multiprocessor of 65536 registers. Without it the compiler spills some.
#define RESIDENT (LOGIT_BITS == 64 ? 2 : 3)

// A share of 0 is multiplied, too: what is not finite shows.
__device__ __forceinline__ Real mix(Real lower, Real upper, Real share) {
    return (1 - share) * lower + share * upper;
}

// How far along a pixel is, from what is left of its numerator; that is below 0 before the first logit.
__device__ __forceinline__ Real share_of(const Axis& axis, int rest) {
    return (Real)(rest > 0 ? rest : 0) * ((Real)1 / (Real)axis.denominator);
}

__device__ __forceinline__ Real between_rows(Real upper, Real lower, Real share) {
    return ROWS ? mix(upper, lower, share) : upper;
}

__device__ __forceinline__ Real between_columns(Real left, Real right, Real share) {
    return COLUMNS ? mix(left, right, share) : left;
}

// The two logits of one axis that a pixel lies between, the same one twice beyond the last; and how far it is.
struct Tap {
    long long lower, to_upper;
    Real share;
};

__device__ __forceinline__ Tap tap_of(const Axis& axis, long long i) {
    const long long position = axis.offset + i * axis.step;
    const long long lower = position / axis.denominator;  // it is above -1, so this is 0 before the first logit
    const Tap tap = {lower, lower + 1 < axis.n_in, share_of(axis, (int)(position - lower * axis.denominator))};
    return tap;
}

// The first pixel that lies at a logit of one axis or behind it.
__device__ __forceinline__ int first_at(const Axis& axis, long long logit) {
    if (logit <= 0) return 0;
    if (axis.step == 0) return (int)axis.n_out;
    const long long first = (logit * axis.denominator - axis.offset + axis.step - 1) / axis.step;
    return (int)(first < axis.n_out ? first : axis.n_out);
}

// The logits of one pixel, each between up to four of those in memory: rows first, then columns.
struct Interpolated {
    const Logit* first;  // of the upper row, in the left column
    long long step, down, right;
    Real row_share, column_share;

    static __device__ __forceinline__ Interpolated of(const Task& task, const Place& place) {
        const long long* steps = task.logit_steps;
        const Tap row = tap_of(task.axes[0], place.row), column = tap_of(task.axes[1], place.column);
        const Place corner = {place.image, row.lower, column.lower};
        const Interpolated logits = {task.logits + offset_of(steps, corner), steps[3], row.to_upper * steps[1],
                                     column.to_upper * steps[2], row.share, column.share};
        return logits;
    }

    __device__ __forceinline__ Real in_column(const Logit* at) const {
        return between_rows(to_real(__ldg(at)), to_real(__ldg(at + down)), row_share);
    }

    __device__ __forceinline__ Real operator[](int c) const {
        const Logit* at = first + c * step;
        return between_columns(in_column(at), in_column(at + right), column_share);
    }
};

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) forward_resized(const Task task) {
    forward<1, Interpolated>(task);
}

// Put what the backward pass needs of each pixel in place of what the forward pass kept: the factor of its derivative
// in that of its loss, and the logarithm of the sum of its shifted exponentials in that of its cross-entropy. (With the
// shift added to it, one number would do; but next to large logits it would be lost in the rounding.) An infinite
// factor makes the derivative NaN in some class, so it is NaN in all, as in the composite.
extern "C" __global__ void __launch_bounds__(BLOCK) weigh(const Task task) {
    const unsigned int pixel = blockIdx.x * BLOCK + threadIdx.x;
    if (pixel >= task.n_pixels) return;
    const Place place = place_of(task, pixel);
    const Target target = target_of(task, place);
    const Real factor = factor_of(task, target, task.losses[pixel]);
    const bool is_finite = factor - factor == 0;
    Real shift = 0, log_sum = task.nlls[pixel];
    if (is_finite && factor != 0) {
        const Interpolated logits = Interpolated::of(task, place);
        shift = logits[(int)target.label];
        if (!(log_sum <= 64)) {
            const Shift careful = shifted_sum<1, Interpolated>(logits, (int)task.n_classes);
            shift = careful.largest;
            log_sum = log(careful.sum);
        }
    }
    task.losses[pixel] = is_finite ? factor : not_a_number();
    task.shifts[pixel] = shift;
    task.nlls[pixel] = log_sum;
}

// ---- backward: what the pixels around a logit say to it -------------------------------------------------------------

// A thread adds up the gradient of one class, at two neighbouring logits of each of some rows, without atomics and in
// a fixed order. So 3/2 * (1 + 1 / strip) threads see a pixel; with a thread for each logit it would be 4.
#define CELLS 2

struct Pair {
    Real left, right;
};

// What the pixels of a row that lie between two neighbouring logits, from `begin` to `end`, say to each of these.
__device__ __forceinline__ Pair gather(const Task& task, unsigned int first, const Label* labels, int begin, int end,
                                       int column, Real left, Real right, int c) {
    const Axis& columns = task.axes[1];
    Pair sum = {0, 0};
    unsigned int pixel = first + begin;
    const Label* label = labels + begin * task.label_steps[2];
    int rest = (int)(columns.offset + begin * columns.step - column * columns.denominator);
#pragma unroll 1
    for (const unsigned int last = first + end; pixel < last; ++pixel) {
        const Real factor = task.losses[pixel];
        if (factor != 0) {
            const Real share = COLUMNS ? share_of(columns, rest) : (Real)0;
            const Real logit = between_columns(left, right, share);
            const Real of_label = (int)*label == c ? (Real)1 : (Real)0;  // one that is no class has a factor of NaN
            const Real slope = (exp((logit - task.shifts[pixel]) - task.nlls[pixel]) - of_label) * factor;
            sum.left += (1 - share) * slope;
            sum.right += share * slope;
        }
        label += task.label_steps[2];
        rest += (int)columns.step;
    }
    return sum;
}

// Neighbouring threads have neighbouring classes. So they are at the same pixels, which are read once for all of them,
// and together they skip those that are not selected.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) backward_resized(const Task task) {
    const Axis &rows = task.axes[0], &columns = task.axes[1];
    const int n_rows = (int)rows.n_in, n_columns = (int)columns.n_in, strip = (int)task.strip;
    const unsigned int across = (n_columns + CELLS - 1) / CELLS, strips = (n_rows + strip - 1) / strip;
    const unsigned long long thread = blockIdx.x * (unsigned long long)BLOCK + threadIdx.x;
    const unsigned long long group = thread / (unsigned int)task.n_classes;
    const int c = (int)(thread % (unsigned int)task.n_classes), column = (int)(group % across) * CELLS;
    const int first_row = (int)(group / across % strips) * strip;
    const int end_row = first_row + strip < n_rows ? first_row + strip : n_rows;
    const long long image = group / across / strips;
    if (image >= task.n_images) return;

    const Logit* logits = task.logits + image * task.logit_steps[0] + c * task.logit_steps[3];
    Logit* gradient = task.gradient + image * task.gradient_steps[0] + c * task.gradient_steps[3];
    int begins[CELLS + 2];  // of the pixels that lie at the column before, at each column, and behind
#pragma unroll
    for (int k = 0; k < CELLS + 2; ++k) begins[k] = first_at(columns, column - 1 + k);
    Real carried[CELLS] = {};  // what the pixels above a row say to it
    int y = first_at(rows, first_row - ROWS);
    for (int row = first_row - ROWS; row < end_row; ++row) {
        const Logit* upper_row = logits + (row < 0 ? 0 : row) * task.logit_steps[1];
        const Logit* lower_row = logits + (row + 1 < n_rows ? row + 1 : row) * task.logit_steps[1];
        Real above[CELLS + 2], below[CELLS + 2], to_above[CELLS] = {}, to_below[CELLS] = {};
#pragma unroll
        for (int k = 0; k < CELLS + 2; ++k) {
            const int at = column - 1 + k, inside = at < 0 ? 0 : at < n_columns ? at : n_columns - 1;
            above[k] = to_real(__ldg(upper_row + inside * task.logit_steps[2]));
            below[k] = to_real(__ldg(lower_row + inside * task.logit_steps[2]));
        }
        for (const int end = first_at(rows, row + 1); y < end; ++y) {
            const unsigned int first = (unsigned int)((image * task.rows + y) * task.columns);
            const Label* labels = task.labels + image * task.label_steps[0] + y * task.label_steps[1];
            const Real share = share_of(rows, (int)(rows.offset + y * rows.step - row * rows.denominator));
            Real sums[CELLS] = {};
            Real right = between_rows(above[1 - COLUMNS], below[1 - COLUMNS], share);
#pragma unroll
            for (int k = 1 - COLUMNS; k <= CELLS; ++k) {
                const Real left = right;
                right = between_rows(above[k + 1], below[k + 1], share);
                Pair pair = gather(task, first, labels, begins[k], begins[k + 1], column - 1 + k, left, right, c);
                if (COLUMNS && column + k == n_columns) pair.left += pair.right;  // the last column is both
                if (k > 0) sums[k - 1] += pair.left;
                if (COLUMNS && k < CELLS) sums[k] += pair.right;
            }
#pragma unroll
            for (int k = 0; k < CELLS; ++k) {
                to_above[k] += (1 - share) * sums[k];
                if (ROWS) to_below[k] += share * sums[k];
            }
        }
#pragma unroll
        for (int k = 0; k < CELLS; ++k) {
            if (row + 1 == n_rows) to_above[k] += to_below[k];  // the last row is both
            if (row >= first_row && column + k < n_columns)
                gradient[row * task.gradient_steps[1] + (column + k) * task.gradient_steps[2]] =
                    to_logit(carried[k] + to_above[k]);
            carried[k] = to_below[k];
        }
    }
}
#endif
