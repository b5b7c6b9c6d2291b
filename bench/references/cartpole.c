/* The yardstick: the REINFORCE gradient of a linear softmax policy on CartPole-v1, in C by hand.
 *
 * What fastpg compiles from generic Python, written out for one environment, one policy and one
 * estimator. It does the same work with the same random numbers (fastpg/random.py), so for one seed
 * it simulates the same trajectories up to rounding; bench/test_yardstick.py checks that. What it may
 * do because it is special, it does:
 *   - the physical parameters are constants, so that the compiler divides by none of them;
 *   - there are two actions, so the score of action 1 is minus the score of action 0: five running
 *     numbers a trajectory in place of ten (measured: 13 % faster);
 *   - one function for sine and cosine; one exponential for both probabilities.
 *
 * L trajectories advance in lock-step ("lanes"); the loop over lanes is innermost and holds a whole
 * time step without a branch or a call, so gcc vectorises it. A lane whose trajectory ends is added to
 * the sums and starts the next trajectory; when none is left, the last lane moves into its place.
 *
 * With -DSINGLE -fsingle-precision-constant the lanes hold float32, the elementary functions are as precise
 * as that, and the draws are the first 23 bits of the same numbers: what twice as many lanes in a vector are
 * worth. The sums stay in float64.
 *
 * Build: gcc -O3 -march=native -ffast-math -fopenmp, as bench/yardstick.py does.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef L
#define L 32 /* lanes */
#endif

#ifdef SINGLE
typedef float real;      /* of the lanes */
typedef int32_t integer; /* as wide */
#else
typedef double real;
typedef int64_t integer;
#endif

enum {
    FEATURES = 5,          /* x, x_dot, theta, theta_dot and 1 */
    P = 2 * FEATURES,      /* parameters: a row of FEATURES for each of the two actions, bias last */
    SUMS = 5 * P + 3       /* sums of s, sR, s², s²R, s²R² (P each), R, R², length */
};

/* --- CartPole-v1, as in Gymnasium --- */

static const real GRAVITY = 9.8, MASS_CART = 1.0, MASS_POLE = 0.1, HALF_LENGTH = 0.5, FORCE = 10.0;
static const real TAU = 0.02, X_LIMIT = 2.4, ANGLE_LIMIT = 12 * 2 * M_PI / 360;

/* --- random numbers: SplitMix64, a key and a gamma for each trajectory --- */

static const uint64_t GOLDEN = 0x9E3779B97F4A7C15u;
enum { STEP_BITS = 16, POLICY_BITS = 15 };

static inline double double_from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint64_t mix_gamma(uint64_t z) {
    z = (z ^ (z >> 33)) * 0xFF51AFD7ED558CCDu;
    z = (z ^ (z >> 33)) * 0xC4CEB9FE1A85EC53u;
    z = (z ^ (z >> 33)) | 1;
    return __builtin_popcountll(z ^ (z >> 1)) < 24 ? z ^ 0xAAAAAAAAAAAAAAAAu : z;
}

/* Uniform on [0, 1): the first bits as the mantissa of a number in [1, 2), minus 1. */
#ifdef SINGLE
static inline float float_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline real uniform(uint64_t counter) {
    return float_from_bits((uint32_t)(mix64(counter) >> 41) | 0x3F800000u) - 1.0;
}
#else
static inline real uniform(uint64_t counter) {
    return double_from_bits(mix64(counter) >> 12 | 0x3FF0000000000000u) - 1.0;
}
#endif

/* --- elementary functions without calls, to the last bit or two --- */

#ifdef SINGLE
/* As below, with minimax polynomials: 7.5e-9 off for exp(r), 9.7e-9 for the sine, 7.6e-10 for the cosine. */
static inline real exp_(real x) {
    x = x < -87.0 ? -87.0 : x;
    real n = __builtin_rintf(x * 1.44269504);
    real r = x - n * 0.693359375;
    r = r + n * 2.12194440e-4;
    real p = 1.394110957e-03;
    p = p * r + 8.363175256e-03;
    p = p * r + 4.1666375298e-02;
    p = p * r + 1.6666577006e-01;
    p = p * r + 0.500000002693;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * float_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

static inline void sincos_(real x, real *sine, real *cosine) {
    real n = __builtin_rintf(x * 0.636619772);
    real r = x - n * 1.5703125;
    r = r - n * 4.83826795e-4;
    real z = r * r;
    real s = ((-1.95880088e-04 * z + 8.332748998e-03) * z + -1.66666646679e-01) * z * r + r;
    real c = ((2.454804051669e-05 * z + -1.388830364311e-03) * z + 4.166666466419e-02) * z * z + (1.0 - 0.5 * z);
    int32_t quadrant = (int32_t)n;
    real a = quadrant & 1 ? c : s, b = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -a : a;
    *cosine = (quadrant + 1) & 2 ? -b : b;
}
#else

/* x = n log 2 + r, |r| <= log(2)/2: a Taylor polynomial in r, and 2^n through the exponent bits.
 * The integers are 32 bits wide because AVX2 converts a double to no wider one. */
static inline double exp_(double x) {
    x = x < -708.0 ? -708.0 : x;
    double n = __builtin_rint(x * 1.4426950408889634);
    double r = x - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double p = 2.08767569878680989792e-09;
    p = p * r + 2.50521083854417187751e-08;
    p = p * r + 2.75573192239858906526e-07;
    p = p * r + 2.75573192239858906526e-06;
    p = p * r + 2.48015873015873015873e-05;
    p = p * r + 1.98412698412698412698e-04;
    p = p * r + 1.38888888888888888889e-03;
    p = p * r + 8.33333333333333333333e-03;
    p = p * r + 4.16666666666666666667e-02;
    p = p * r + 1.66666666666666666667e-01;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * double_from_bits((uint64_t)((int64_t)(int32_t)n + 1023) << 52);
}

/* x = n pi/2 + r, |r| <= pi/4: fdlibm's polynomials for both, exchanged and negated by quadrant. */
static inline void sincos_(double x, double *sine, double *cosine) {
    double n = __builtin_rint(x * 0.6366197723675814);
    double r = x - n * 1.5707963267341256;
    r = r - n * 6.077100506303966e-11;
    r = r - n * 2.0222662487959506e-21;
    double z = r * r;
    double p = 1.58969099521155010221e-10;
    p = p * z - 2.50507602534068634195e-08;
    p = p * z + 2.75573137070700676789e-06;
    p = p * z - 1.98412698298579493134e-04;
    p = p * z + 8.33333333332248946124e-03;
    p = p * z - 1.66666666666666324348e-01;
    double s = p * z * r + r;
    double q = -1.13596475577881948265e-11;
    q = q * z + 2.08757232129817482790e-09;
    q = q * z - 2.75573143513906633035e-07;
    q = q * z + 2.48015872894767294178e-05;
    q = q * z - 1.38888888888741095749e-03;
    q = q * z + 4.16666666666666019037e-02;
    double c = q * z * z + (1.0 - 0.5 * z);
    int64_t quadrant = (int32_t)n;
    double a = quadrant & 1 ? c : s, b = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -a : a;
    *cosine = (quadrant + 1) & 2 ? -b : b;
}

#endif

/* --- trajectories in lock-step --- */

typedef struct {
    _Alignas(64) real x[L], x_dot[L], theta[L], theta_dot[L];
    real total[L];                   /* return so far */
    real score[FEATURES][L];         /* running score of action 0's row */
    uint64_t key[L], gamma[L];
    integer time[L];
    uint8_t finished[L];
} lanes;

static void begin(lanes *m, int l, uint64_t seed_key, uint64_t number) {
    uint64_t key = mix64(seed_key + GOLDEN * (2 * number));
    uint64_t gamma = mix_gamma(seed_key + GOLDEN * (2 * number + 1));
    m->x[l] = uniform(key) * 0.1 - 0.05;
    m->x_dot[l] = uniform(key + gamma) * 0.1 - 0.05;
    m->theta[l] = uniform(key + 2 * gamma) * 0.1 - 0.05;
    m->theta_dot[l] = uniform(key + 3 * gamma) * 0.1 - 0.05;
    m->total[l] = 0.0;
    for (int f = 0; f < FEATURES; f++) m->score[f][l] = 0.0;
    m->key[l] = key + (gamma << STEP_BITS);
    m->gamma[l] = gamma;
    m->time[l] = 0;
}

static void copy(lanes *m, int to, int from) {
    m->x[to] = m->x[from];
    m->x_dot[to] = m->x_dot[from];
    m->theta[to] = m->theta[from];
    m->theta_dot[to] = m->theta_dot[from];
    m->total[to] = m->total[from];
    for (int f = 0; f < FEATURES; f++) m->score[f][to] = m->score[f][from];
    m->key[to] = m->key[from];
    m->gamma[to] = m->gamma[from];
    m->time[to] = m->time[from];
}

/* Advance n lanes by a step; return how many finished. */
static int sweep(lanes *restrict m, int n, const double *restrict weights, integer horizon) {
    const real total_mass = MASS_CART + MASS_POLE, polemass_length = MASS_POLE * HALF_LENGTH;
    real w[P]; /* a copy, which no store can change */
    for (int p = 0; p < P; p++) w[p] = weights[p];
    int n_finished = 0;
    for (int l = 0; l < n; l++) {
        real x = m->x[l], x_dot = m->x_dot[l], theta = m->theta[l], theta_dot = m->theta_dot[l];
        uint64_t key = m->key[l], gamma = m->gamma[l];

        /* The policy: softmax of two logits is the logistic function of their difference. */
        real logit0 = w[0] * x + w[1] * x_dot + w[2] * theta + w[3] * theta_dot + w[4];
        real logit1 = w[5] * x + w[6] * x_dot + w[7] * theta + w[8] * theta_dot + w[9];
        real difference = logit0 - logit1;
        real e = exp_(-fabs(difference)), larger = 1.0 / (1.0 + e);
        real left = difference > 0.0 ? larger : e * larger; /* the probability of action 0 */
        int right = left <= uniform(key + (gamma << POLICY_BITS));

        /* The score of action 0's row: (1{a = 0} - p_0) (x, 1). */
        real error = (right ? 0.0 : 1.0) - left;
        m->score[0][l] += error * x;
        m->score[1][l] += error * x_dot;
        m->score[2][l] += error * theta;
        m->score[3][l] += error * theta_dot;
        m->score[4][l] += error;

        /* The dynamics. */
        real sine, cosine, force = right ? FORCE : -FORCE;
        sincos_(theta, &sine, &cosine);
        real temp = (force + polemass_length * theta_dot * theta_dot * sine) / total_mass;
        real theta_acc = (GRAVITY * sine - cosine * temp)
                           / (HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * cosine * cosine / total_mass));
        real x_acc = temp - polemass_length * theta_acc * cosine / total_mass;
        x += TAU * x_dot;
        x_dot += TAU * x_acc;
        theta += TAU * theta_dot;
        theta_dot += TAU * theta_acc;

        m->x[l] = x;
        m->x_dot[l] = x_dot;
        m->theta[l] = theta;
        m->theta_dot[l] = theta_dot;
        m->total[l] += 1.0;
        m->key[l] = key + (gamma << STEP_BITS);
        integer time = ++m->time[l];
        int finished = (fabs(x) > X_LIMIT) | (fabs(theta) > ANGLE_LIMIT) | (time >= horizon);
        m->finished[l] = finished;
        n_finished += finished;
    }
    return n_finished;
}

/* Add a finished trajectory to the sums (the rows of action 0 only; `gradient` fills in the others). */
static void add(double *sums, const lanes *m, int l) {
    double total = m->total[l];
    for (int f = 0; f < FEATURES; f++) {
        double s = m->score[f][l], s2 = s * s;
        sums[f] += s;
        sums[P + f] += s * total;
        sums[2 * P + f] += s2;
        sums[3 * P + f] += s2 * total;
        sums[4 * P + f] += s2 * total * total;
    }
    sums[5 * P] += total;
    sums[5 * P + 1] += total * total;
    sums[5 * P + 2] += m->time[l];
}

/* Run trajectories first to stop - 1 to their ends; return the steps. */
static int64_t simulate(const double *weights, int64_t horizon, uint64_t seed_key, int64_t first,
                        int64_t stop, double *sums) {
    lanes memory = {0}, *m = &memory;
    int n = stop - first < L ? (int)(stop - first) : L;
    int64_t next = first + n, steps = 0;
    for (int l = 0; l < n; l++) begin(m, l, seed_key, first + l);
    while (n > 0) {
        steps += n;
        if (sweep(m, n, weights, horizon) == 0) continue;
        /* Eight flags a word. Downwards, so that the lane which moves into a gap has had its turn. */
        for (int word = (n - 1) / 8 * 8; word >= 0; word -= 8) {
            uint64_t flags;
            memcpy(&flags, m->finished + word, sizeof flags);
            while (flags) {
                int highest = (63 - __builtin_clzll(flags)) / 8, l = word + highest;
                flags ^= (uint64_t)1 << 8 * highest;
                add(sums, m, l);
                if (next < stop) {
                    begin(m, l, seed_key, next++);
                } else {
                    copy(m, l, --n);
                    m->finished[n] = 0; /* lanes out of use stay unflagged */
                }
            }
        }
    }
    return steps;
}

/* Simulate n trajectories, `chunk` of them in a go on one thread.
 * `weights` has P numbers; `sums` has room for SUMS and must be zero. Return the number of steps. */
int64_t gradient(const double *weights, int64_t horizon, uint64_t seed, int64_t n, int64_t chunk,
                 int threads, double *sums) {
    int64_t chunks = (n + chunk - 1) / chunk, steps = 0;
    uint64_t seed_key = mix64(seed + GOLDEN);
    #pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : steps, sums[:SUMS])
    for (int64_t c = 0; c < chunks; c++) {
        int64_t stop = (c + 1) * chunk < n ? (c + 1) * chunk : n;
        steps += simulate(weights, horizon, seed_key, c * chunk, stop, sums);
    }
    for (int block = 0; block < 5; block++)
        for (int f = 0; f < FEATURES; f++) /* s and sR are odd in s, the others even */
            sums[block * P + FEATURES + f] = (block < 2 ? -1.0 : 1.0) * sums[block * P + f];
    return steps;
}
