/* The sum of two maps, each with a scale of its own (TFLite's ADD).
 *
 *   naive    three requantizations a result
 *   blocked  the two of the inputs by tables of all their values
 *   indexed  the same for winners; a loser is zero
 */
#include "kernels.h"
#include "requantize.h"
#include "winners.h"

#define LEFT_SHIFT 20

static inline int32_t scaled_1(const struct layer *layer, int32_t value)
{
    return requantize((value - layer->input_zero_point) << LEFT_SHIFT, layer->input_multiplier, layer->input_shift);
}

static inline int32_t scaled_2(const struct layer *layer, int32_t value)
{
    return requantize((value - layer->input_2_zero_point) << LEFT_SHIFT, layer->input_2_multiplier,
                      layer->input_2_shift);
}

static inline int8_t sum_of(const struct layer *layer, int32_t sum)
{
    int32_t value = requantize(sum, layer->multiplier, layer->shift) + layer->output_zero_point;
    return (int8_t)clamp(value, layer->activation_min, layer->activation_max);
}

static void make_tables(const struct layer *layer, int32_t *table_1, int32_t *table_2)
{
    for (int32_t value = -128; value < 128; value++) {
        table_1[value] = scaled_1(layer, value);
        table_2[value] = scaled_2(layer, value);
    }
}

void addition_naive(const struct layer *layer)
{
    int32_t line = layer->width * layer->channels;
    for (int32_t i = layer->row_begin * line; i < layer->row_end * line; i++)
        layer->output[i] = sum_of(layer, scaled_1(layer, layer->input[i]) + scaled_2(layer, layer->input_2[i]));
}

void addition_blocked(const struct layer *layer)
{
    int32_t *table_1 = (int32_t *)layer->scratch + 128, *table_2 = table_1 + 256;
    make_tables(layer, table_1, table_2);
    int32_t line = layer->width * layer->channels;
    for (int32_t i = layer->row_begin * line; i < layer->row_end * line; i++)
        layer->output[i] = sum_of(layer, table_1[layer->input[i]] + table_2[layer->input_2[i]]);
}

void addition_indexed(const struct layer *layer)
{
    int32_t *table_1 = (int32_t *)layer->scratch + 128, *table_2 = table_1 + 256, *list = table_2 + 128;
    make_tables(layer, table_1, table_2);
    /* Channels by who wins: 0 neither, 1 the first input's, 2 the second's, 3 both. */
    int32_t begin[5], count = 0;
    for (int32_t who = 0; who < 4; who++) {
        begin[who] = count;
        for (int32_t c = 0; c < layer->channels; c++)
            if ((layer->mask[c] | layer->mask_2[c] << 1) == who)
                list[count++] = c;
    }
    begin[4] = count;
    int8_t zero = sum_of(layer, 0);
    int32_t skipped = layer->row_begin * layer->width * layer->channels;
    const int8_t *first = layer->input + skipped, *second = layer->input_2 + skipped;
    int8_t *output = layer->output + skipped;
    for (int32_t pixels = (layer->row_end - layer->row_begin) * layer->width; pixels > 0; pixels--) {
        for (int32_t i = begin[0]; i < begin[1]; i++)
            output[list[i]] = zero;
        for (int32_t i = begin[1]; i < begin[2]; i++)
            output[list[i]] = sum_of(layer, table_1[first[list[i]]]);
        for (int32_t i = begin[2]; i < begin[3]; i++)
            output[list[i]] = sum_of(layer, table_2[second[list[i]]]);
        for (int32_t i = begin[3]; i < begin[4]; i++)
            output[list[i]] = sum_of(layer, table_1[first[list[i]]] + table_2[second[list[i]]]);
        first += layer->channels;
        second += layer->channels;
        output += layer->channels;
    }
}
