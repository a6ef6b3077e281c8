// The usual loss, its selection and its gradient on a GPU. The host never waits: what one kernel finds the next one
// reads from the memory of the device, and those that turn out not to be needed return at once.
//
// Compiled with LOGIT_BITS (16, 32 or 64), LABEL (the C type of the labels), RESIZED (which axes of the logits are
// interpolated, see _resized.cu), TASK_BYTES and STATE_BYTES (what _launch.py takes the sizes of the two structs for).

#if LOGIT_BITS == 64
typedef double Real;
typedef unsigned long long Bits;
#define EXPONENT_BITS 11
#else
typedef float Real;
typedef unsigned int Bits;
#define EXPONENT_BITS 8
#endif

#if LOGIT_BITS == 16
typedef unsigned short Logit;  // its bits: the type would need a header, which not every installation has
#else
typedef Real Logit;
#endif

typedef LABEL Label;

#define BLOCK 256  // threads
#define WIDE 1024  // threads of the kernels that are one block

// A key is read in digits of 11 bits: three passes over float32 losses, six over float64, with histograms of 8 KB. Of
// digits of 8 bits it would be a pass more, and the first, less than the exponent, would put nearly all losses in two
// bins.
#define REAL_BITS (8 * (int)sizeof(Real))
#define DIGIT_BITS 11
#define BINS (1 << DIGIT_BITS)
#define DIGITS ((REAL_BITS + DIGIT_BITS - 1) / DIGIT_BITS)

// What some pixels add to the selection.
struct Partial {
    double hard_sum;
    int n_valid, n_hard;
};

// What is known of the k-th largest loss after some digits: they, its rank among the losses that share them, and how
// many those are.
struct Found {
    Bits digits;
    unsigned int rank, n_shared;
};

// What the kernels tell each other; zero at the start.
struct State {
    double hard_sum;
    int n_valid, n_hard, n_min;
    int searched;  // too few pixels are hard
    Real cut, tie_weight, divisor;
    Found found[DIGITS + 1];
    unsigned int counts[DIGITS][BINS];
};

// How the places of one axis of the labels lie among the places of the logits: place i at (offset + i * step) /
// denominator, or at 0 where that is below 0. No position is rounded before its fraction is.
struct Axis {
    long long n_in, n_out, offset, step, denominator;
};

// What the host tells the kernels, the same for all of one call but for `digit`.
struct Task {
    const Logit* logits;
    Logit* gradient;
    const Label* labels;
    const Real* weight;        // null: 1
    const Real* pixel_weight;  // null: 1
    const Real* cut_array;     // null: it came as a number
    Real* losses;              // of each pixel; minus infinity where it is ignored, which ranks below everything
    Real* nlls;                // null: they are the losses
    Real* shifts;              // of resized logits, for the backward pass
    Partial* partials;         // of each block
    State* state;
    Real* value;
    double cut;
    long long n_pixels, n_classes, n_partials;
    long long rows, columns;  // of the grid of pixels: the last two lengths
    // From pixel to pixel along the three axes of the grid, then from class to class.
    long long logit_steps[4], gradient_steps[4], label_steps[3], weight_steps[3];
    long long is_ignoring, ignore_index;
    long long numerator, denominator, limit;  // of min_kept
    long long is_mean, tiles, digit;
    // Of resized logits: the images, and how many rows of small cells a thread of the backward pass walks through.
    long long n_images, strip;
    Axis axes[2];  // rows, columns
};

static_assert(sizeof(Task) == TASK_BYTES, "_launch.py has another Task");
static_assert(sizeof(State) <= STATE_BYTES, "_launch.py makes less room for the State");

#ifdef __CUDACC__
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ __forceinline__ unsigned short float_to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#endif

__device__ __forceinline__ Real to_real(Logit x) {
#if LOGIT_BITS == 16
    return half_to_float(x);
#else
    return x;
#endif
}

__device__ __forceinline__ Logit to_logit(Real x) {
#if LOGIT_BITS == 16
    return float_to_half(x);
#else
    return x;
#endif
}

__device__ __forceinline__ Real from_bits(Bits bits) {
    Real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

__device__ __forceinline__ Real infinity() {
    return from_bits((((Bits)1 << EXPONENT_BITS) - 1) << (REAL_BITS - 1 - EXPONENT_BITS));
}

__device__ __forceinline__ Real not_a_number() { return from_bits(~(Bits)0 >> 1); }

// ---- one pixel ------------------------------------------------------------------------------------------------------

struct Place {
    long long image, row, column;
};

__device__ __forceinline__ Place place_of(const Task& task, unsigned int pixel) {
    const unsigned int columns = (unsigned int)task.columns, rows = (unsigned int)task.rows;
    const unsigned int row = pixel / columns;
    const Place place = {row / rows, row % rows, pixel % columns};
    return place;
}

// In 64 bits: logits may be more than 2**31 elements apart.
__device__ __forceinline__ long long offset_of(const long long* steps, const Place& place) {
    return place.image * steps[0] + place.row * steps[1] + place.column * steps[2];
}

struct Target {
    long long label;
    bool is_valid, is_wrong;
    Real scale;
};

// A label that is no class has no weight to look up, and nobody reads a logit for it.
__device__ __forceinline__ Target target_of(const Task& task, const Place& place) {
    Target target;
    target.label = (long long)task.labels[offset_of(task.label_steps, place)];
    target.is_valid = !(task.is_ignoring && target.label == task.ignore_index);
    const bool is_class = target.label >= 0 && target.label < task.n_classes;
    target.is_wrong = target.is_valid && !is_class;
    target.scale = 0;
    if (target.is_valid && is_class) {
        target.scale = task.pixel_weight ? task.pixel_weight[offset_of(task.weight_steps, place)] : (Real)1;
        if (task.weight) target.scale *= task.weight[target.label];
    }
    return target;
}

// ---- the classes of one pixel ---------------------------------------------------------------------------------------

// Where the classes are the nearest in memory, LANES neighbouring threads share a pixel, so that they read neighbouring
// logits; elsewhere neighbouring threads have neighbouring pixels, and LANES is 1. A thread asks for AHEAD logits
// before it uses the first: beyond the last class it takes minus infinity, whose exponential is 0.
template <int LANES>
struct Group {
    enum { AHEAD = LANES == 1 ? 8 : 4 };

    static __device__ __forceinline__ int lane() { return threadIdx.x % LANES; }

    // The others of the warp may be elsewhere in the code.
    static __device__ __forceinline__ unsigned int mask() {
        const unsigned int all = LANES == 32 ? ~0u : (1u << (LANES % 32)) - 1;
        return all << (threadIdx.x % 32 / LANES * LANES);
    }

    // Each lane gets the same bits: a + b is b + a.
    static __device__ __forceinline__ Real sum(Real x) {
        for (int other = LANES / 2; other > 0; other /= 2) x += __shfl_xor_sync(mask(), x, other);
        return x;
    }

    static __device__ __forceinline__ Real largest(Real x) {
        for (int other = LANES / 2; other > 0; other /= 2) x = fmax(x, __shfl_xor_sync(mask(), x, other));
        return x;
    }

    // The loads of most classes need no test of each: with it the compiler lets one wait for another's exponential.
    template <class Logits>
    static __device__ __forceinline__ void load(const Logits& logits, int first, int n, Real* x) {
        if (first + (AHEAD - 1) * LANES < n) {
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) x[i] = logits[first + i * LANES];
            return;
        }
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            const int c = first + i * LANES;
            x[i] = c < n ? logits[c] : -infinity();
        }
    }
};

// The logits of one pixel, as they lie in memory.
struct Stored {
    const Logit* first;
    long long step;

    static __device__ __forceinline__ Stored of(const Task& task, const Place& place) {
        const Stored logits = {task.logits + offset_of(task.logit_steps, place), task.logit_steps[3]};
        return logits;
    }

    __device__ __forceinline__ Real operator[](int c) const { return to_real(first[c * step]); }
};

struct Shift {
    Real largest, sum;
};

// The sum of the exponentials, shifted by the largest logit: for any logits. NaN passes through the sum.
template <int LANES, class Logits>
__device__ __noinline__ Shift shifted_sum(const Logits logits, int n) {
    Shift shift = {-infinity(), 0};
    for (int c = Group<LANES>::lane(); c < n; c += LANES) shift.largest = fmax(shift.largest, logits[c]);
    shift.largest = Group<LANES>::largest(shift.largest);
    for (int c = Group<LANES>::lane(); c < n; c += LANES) shift.sum += exp(logits[c] - shift.largest);
    shift.sum = Group<LANES>::sum(shift.sum);
    return shift;
}

// Shifted by the logit of the label the sum is the exponential of the loss, at least 1, so one pass needs no maximum.
// Above exp(60), as for all that is not finite, it is taken once more.
template <int LANES, class Logits>
__device__ __forceinline__ Real cross_entropy(const Logits& logits, int n, int label) {
    typedef Group<LANES> Lanes;
    const Real of_label = logits[label];
    Real sum = 0, x[Lanes::AHEAD];
    for (int c = Lanes::lane(); c < n; c += LANES * Lanes::AHEAD) {
        Lanes::load(logits, c, n, x);
#pragma unroll
        for (int i = 0; i < Lanes::AHEAD; ++i) sum += exp(x[i] - of_label);
    }
    sum = Lanes::sum(sum);
    if (sum <= (Real)1.1420073898156842e26) return log(sum);
    const Shift shift = shifted_sum<LANES, Logits>(logits, n);
    return log(shift.sum) - (of_label - shift.largest);
}

template <int LANES>
__device__ __forceinline__ void fill(Logit* gradient, long long step, int n, Real value) {
    const Logit x = to_logit(value);
    for (int c = Group<LANES>::lane(); c < n; c += LANES) gradient[c * step] = x;
}

// ---- one block ------------------------------------------------------------------------------------------------------

__device__ __forceinline__ Partial add(const Partial& a, const Partial& b) {
    const Partial sum = {a.hard_sum + b.hard_sum, a.n_valid + b.n_valid, a.n_hard + b.n_hard};
    return sum;
}

// A tree, in double: the order of the additions is that of the threads, so the same input gives the same bits. Only the
// first thread gets the sum.
template <int THREADS>
__device__ Partial block_sum(const Partial& mine) {
    __shared__ Partial parts[THREADS];
    const int i = threadIdx.x;
    parts[i] = mine;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (i < half) parts[i] = add(parts[i], parts[i + half]);
    }
    return parts[0];
}

__device__ Partial sum_of_partials(const Task& task) {
    Partial mine = {0, 0, 0};
#pragma unroll 4
    for (int i = threadIdx.x; i < task.n_partials; i += WIDE) mine = add(mine, task.partials[i]);
    return block_sum<WIDE>(mine);
}

// ---- forward --------------------------------------------------------------------------------------------------------

template <int LANES, class Logits>
__device__ __forceinline__ void forward(const Task& task) {
    const Real cut = task.cut_array ? *task.cut_array : (Real)task.cut;
    const bool is_first = Group<LANES>::lane() == 0;
    Partial mine = {0, 0, 0};
    for (int i = 0; i < task.tiles; ++i) {
        const unsigned int tile = blockIdx.x * (unsigned int)task.tiles + i;
        const unsigned int pixel = tile * (BLOCK / LANES) + threadIdx.x / LANES;
        if (pixel >= task.n_pixels) break;
        const Place place = place_of(task, pixel);
        const Target target = target_of(task, place);
        Real nll = 0, loss = -infinity();
        if (target.is_valid) {
            if (target.scale != 0)  // else the logits may be anything
                nll = cross_entropy<LANES>(Logits::of(task, place), (int)task.n_classes, (int)target.label);
            // A threshold out of its range has become NaN.
            loss = target.is_wrong || cut != cut ? not_a_number() : target.scale * nll;
        }
        if (!is_first) continue;
        task.losses[pixel] = loss;
        if (task.nlls) task.nlls[pixel] = nll;
        if (target.is_valid) {
            mine.n_valid += 1;
            if (!(loss <= cut)) {  // NaN is hard
                mine.n_hard += 1;
                mine.hard_sum += loss;
            }
        }
    }
    mine = block_sum<BLOCK>(mine);
    if (threadIdx.x == 0) task.partials[blockIdx.x] = mine;
}

// How many are hard, and how many are wanted. Integers: n * 0.7 would depend on the dtype.
extern "C" __global__ void __launch_bounds__(WIDE) tally(const Task task) {
    const Partial whole = sum_of_partials(task);
    if (threadIdx.x != 0) return;
    const long long asked = whole.n_valid * task.numerator / task.denominator;
    State* state = task.state;
    state->hard_sum = whole.hard_sum;
    state->n_valid = whole.n_valid;
    state->n_hard = whole.n_hard;
    state->n_min = (int)(asked < task.limit ? asked : task.limit);
    state->searched = whole.n_hard < state->n_min;
    state->found[0].rank = state->n_min;
}

// ---- the k-th largest, digit by digit -------------------------------------------------------------------------------

// Unsigned integers that rise with the losses: 0.0 is -0.0, and NaN is above all.
__device__ __forceinline__ Bits key_of(Real loss) {
    const Bits sign = (Bits)1 << (REAL_BITS - 1);
    if (loss != loss) return ~(Bits)0;
    if (loss == 0) return sign;
    Bits bits;
    memcpy(&bits, &loss, sizeof bits);
    return bits & sign ? ~bits : bits | sign;
}

__device__ __forceinline__ Real loss_of(Bits key) {
    const Bits sign = (Bits)1 << (REAL_BITS - 1);
    return from_bits(key & sign ? key ^ sign : ~key);
}

// The bits below a digit, and those of it: the last one has what is left.
__device__ __forceinline__ int bits_below(int digit) {
    const int below = REAL_BITS - (digit + 1) * DIGIT_BITS;
    return below > 0 ? below : 0;
}

__device__ __forceinline__ int bits_of(int digit) { return REAL_BITS - digit * DIGIT_BITS - bits_below(digit); }

// Find one digit more in the histogram of the kernel before. Each block does, which is quicker than another kernel.
__device__ Found find(State* state, int n_digits) {
    __shared__ unsigned int totals[BLOCK];
    __shared__ Found found;
    if (n_digits == 0) return state->found[0];
    const Found before = state->found[n_digits - 1];
    const unsigned int* counts = state->counts[n_digits - 1];
    const int i = threadIdx.x, first = i * (BINS / BLOCK);
    unsigned int mine = 0;
    for (int bin = first; bin < first + BINS / BLOCK; ++bin) mine += counts[bin];
    totals[i] = mine;
    for (int step = 1; step < BLOCK; step *= 2) {  // to the number of losses in these bins and those above
        __syncthreads();
        const unsigned int more = i + step < BLOCK ? totals[i + step] : 0;
        __syncthreads();
        totals[i] += more;
    }
    unsigned int above = totals[i] - mine;
    if (above < before.rank && before.rank <= totals[i]) {  // in one thread
        int bin = first + BINS / BLOCK - 1;
        while (above + counts[bin] < before.rank) above += counts[bin--];
        found.digits = before.digits << bits_of(n_digits - 1) | (Bits)bin;
        found.rank = before.rank - above;
        found.n_shared = counts[bin];
        if (blockIdx.x == 0) state->found[n_digits] = found;
    }
    __syncthreads();
    return found;
}

// Count the next digit of the losses that share those found.
extern "C" __global__ void __launch_bounds__(BLOCK) histogram(const Task task) {
    __shared__ unsigned int counts[BINS];
    if (!task.state->searched) return;
    const int digit = (int)task.digit, below = bits_below(digit), bits = bits_of(digit);
    const Bits digits = find(task.state, digit).digits;
    for (int bin = threadIdx.x; bin < BINS; bin += BLOCK) counts[bin] = 0;
    __syncthreads();
    const Bits in_digit = ((Bits)1 << bits) - 1;
    for (long long i = blockIdx.x * BLOCK + threadIdx.x; i < task.n_pixels; i += (long long)gridDim.x * BLOCK) {
        const Bits rest = key_of(task.losses[i]) >> below;
        // Two shifts: one of the first digit would be by all bits, which C does not define.
        if (rest >> (bits - 1) >> 1 == digits) atomicAdd(&counts[rest & in_digit], 1u);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += BLOCK)
        if (counts[bin]) atomicAdd(&task.state->counts[digit][bin], counts[bin]);
}

extern "C" __global__ void __launch_bounds__(BLOCK) sum_above(const Task task) {
    if (!task.state->searched) return;
    const Real kth = loss_of(find(task.state, DIGITS).digits);
    Partial mine = {0, 0, 0};
    for (long long i = blockIdx.x * BLOCK + threadIdx.x; i < task.n_pixels; i += (long long)gridDim.x * BLOCK) {
        const Real loss = task.losses[i];
        if (!(loss <= kth)) mine.hard_sum += loss;
    }
    mine = block_sum<BLOCK>(mine);
    if (threadIdx.x == 0) task.partials[blockIdx.x] = mine;
}

// The cut and the value. `n_partials` is now the number of those of `sum_above`.
extern "C" __global__ void __launch_bounds__(WIDE) finish(const Task task) {
    State* state = task.state;
    const bool searched = state->searched;
    double total = state->hard_sum;
    int count = state->n_hard;
    if (searched) total = sum_of_partials(task).hard_sum;
    if (threadIdx.x != 0) return;
    state->cut = task.cut_array ? *task.cut_array : (Real)task.cut;
    state->tie_weight = 0;
    if (searched) {
        count = state->n_min;
        const Found found = state->found[DIGITS];
        const int n_above = count - (int)found.rank, n_others = state->n_valid - n_above;
        // A loss of minus infinity ties with the ignored pixels, which take no share.
        const int n_ties = (int)found.n_shared < n_others ? (int)found.n_shared : n_others;
        state->cut = loss_of(found.digits);
        state->tie_weight = (Real)found.rank / (Real)n_ties;
        total += (double)found.rank * (double)state->cut;
    }
    state->divisor = task.is_mean && count > 0 ? (Real)count : (Real)1;
    *task.value = (Real)(total / (double)state->divisor);
}

// ---- backward -------------------------------------------------------------------------------------------------------

// What the derivative of a pixel's cross-entropy is multiplied by: 0 where nothing is selected, NaN where its loss is.
__device__ __forceinline__ Real factor_of(const Task& task, const Target& target, Real loss) {
    const State* state = task.state;
    if (!target.is_valid) return 0;
    if (loss != loss) return not_a_number();
    const Real weight = !(loss <= state->cut) ? (Real)1 : loss == state->cut ? state->tie_weight : (Real)0;
    return weight == 0 || target.scale == 0 ? (Real)0 : weight / state->divisor * target.scale;
}

// d loss / d x_c = (softmax_c - [c = label]) * scale, of what is selected.
template <int LANES>
__device__ __forceinline__ void backward(const Task& task) {
    typedef Group<LANES> Lanes;
    const unsigned int pixel = blockIdx.x * (BLOCK / LANES) + threadIdx.x / LANES;
    if (pixel >= task.n_pixels) return;
    const Place place = place_of(task, pixel);
    const Target target = target_of(task, place);
    const int n = (int)task.n_classes, label = (int)target.label;
    const long long to_next = task.gradient_steps[3];
    Logit* __restrict__ gradient = task.gradient + offset_of(task.gradient_steps, place);
    const Real loss = task.losses[pixel], factor = factor_of(task, target, loss);
    // Not a product with 0, which keeps NaN: the logits are not looked at.
    if (factor == 0 || factor != factor) return fill<LANES>(gradient, to_next, n, factor);
    const Real nll = task.nlls ? task.nlls[pixel] : loss;
    const Stored logits = Stored::of(task, place);
    // The softmax is exp((x - shift) - log_sum) * share; for the most part the loss says the sum.
    Real shift = logits[label], log_sum = nll, share = 1;
    if (!(nll <= 64)) {
        const Shift careful = shifted_sum<LANES, Stored>(logits, n);
        shift = careful.largest;
        log_sum = 0;
        share = 1 / careful.sum;
    }
    Real x[Lanes::AHEAD];
    for (int first = Lanes::lane(); first < n; first += LANES * Lanes::AHEAD) {
        Lanes::load(logits, first, n, x);
#pragma unroll
        for (int i = 0; i < Lanes::AHEAD; ++i) {
            const int c = first + i * LANES;
            const Real probability = exp((x[i] - shift) - log_sum) * share;
            if (c < n) gradient[c * to_next] = to_logit((probability - (c == label ? (Real)1 : (Real)0)) * factor);
        }
    }
}

#define KERNELS(LANES)                                                                      \
    extern "C" __global__ void __launch_bounds__(BLOCK) forward_##LANES(const Task task) {  \
        forward<LANES, Stored>(task);                                                       \
    }                                                                                       \
    extern "C" __global__ void __launch_bounds__(BLOCK) backward_##LANES(const Task task) { backward<LANES>(task); }

#if !RESIZED
KERNELS(1)
KERNELS(8)
KERNELS(32)
#endif
