/* TFLite's int8 arithmetic (docs/numerics.md). Compiled with -fwrapv: sums and left shifts wrap. */
#ifndef REQUANTIZE_H
#define REQUANTIZE_H

#include "layer.h"

static inline int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

/* x * multiplier * 2^(shift - 31), to the nearest, and again: the multiplier is not negative. */
static inline int32_t requantize(int32_t x, int32_t multiplier, int32_t shift)
{
    if (shift > 0)
        x <<= shift;
    int32_t scaled = (int32_t)(((int64_t)x * multiplier + (1 << 30)) >> 31);
    if (shift >= 0)
        return scaled;
    /* Half of 2^-shift is added, and 1 less to what is negative: ties go away from zero, and nothing overflows. */
    return (((scaled + (scaled >> 31)) >> (-shift - 1)) + 1) >> 1;
}

/* The same rounded once. The rare case stays out of loops that are to fit the instruction cache. */
static __attribute__((noinline, unused)) int32_t requantize_once(int32_t x, int32_t multiplier, int32_t shift)
{
    int32_t left = shift > 0 ? shift : 0, right = left - shift;
    int64_t product = (int64_t)(x << left) * multiplier;
    return (int32_t)((product + ((int64_t)1 << (30 + right))) >> (31 + right));
}

/* What makes int8 results of a layer's sums. A copy, so that no store to the output can change it. */
struct requantization {
    const int32_t *multipliers, *shifts;
    int32_t zero_point, activation_min, activation_max, once;
};

static inline struct requantization requantization_of(const struct layer *layer)
{
    return (struct requantization){layer->multipliers, layer->shifts, layer->output_zero_point,
                                   layer->activation_min, layer->activation_max, layer->once};
}

/* The result of channel `o` from its sum, bias included. */
static inline int8_t result(struct requantization by, int32_t sum, int32_t o)
{
    int32_t multiplier = by.multipliers[o], shift = by.shifts[o];
    int32_t value = by.once ? requantize_once(sum, multiplier, shift) : requantize(sum, multiplier, shift);
    return (int8_t)clamp(value + by.zero_point, by.activation_min, by.activation_max);
}

/* Four sums stay in registers: no index of theirs is known at run time only. */
struct sums {
    int32_t s0, s1, s2, s3;
};

/* Those of the output channels from `o` on, the first `live` of which exist. */
static inline struct sums biases(const int32_t *bias, int32_t o, int32_t live)
{
    return (struct sums){bias[o], live > 1 ? bias[o + 1] : 0, live > 2 ? bias[o + 2] : 0, live > 3 ? bias[o + 3] : 0};
}

/* Not inlined, so that loops fit the instruction cache. */
static __attribute__((noinline, unused)) void store_results(const struct requantization *by, struct sums sums, int32_t o, int32_t live, int8_t *out)
{
    out[0] = result(*by, sums.s0, o);
    if (live > 1)
        out[1] = result(*by, sums.s1, o + 1);
    if (live > 2)
        out[2] = result(*by, sums.s2, o + 2);
    if (live > 3)
        out[3] = result(*by, sums.s3, o + 3);
}

#endif
