/* Convolutions of any groups, fully connected layers among them, in four ways.
 *
 *   naive    one result after the other
 *   blocked  four output channels at a time: an activation is loaded once for four products
 *   indexed  blocked, the winners by their index list, where they lie
 *   packed   the winners' activations and weights are gathered first, and then blocked
 */
#include "kernels.h"
#include "requantize.h"
#include "window.h"
#include "winners.h"

/* Add the products of `count` activations that lie side by side, with their blocks of four weights. Not inlined: this
 * loop is to have the registers for itself. */
static __attribute__((noinline)) void add_run(
    struct sums *to, const int8_t *activations, const int8_t *weights, int32_t count, int32_t zero_point)
{
    struct sums sums = *to;
#pragma clang loop unroll_count(4)
    for (int32_t i = 0; i < count; i++) {
        int32_t activation = activations[i] - zero_point;
        sums.s0 += activation * weights[4 * i];
        sums.s1 += activation * weights[4 * i + 1];
        sums.s2 += activation * weights[4 * i + 2];
        sums.s3 += activation * weights[4 * i + 3];
    }
    *to = sums;
}

/* The same for the channels of an index list. */
static __attribute__((noinline)) void add_listed(
    struct sums *to, const int8_t *activations, const int8_t *weights, const int32_t *list, int32_t count,
    int32_t zero_point)
{
    struct sums sums = *to;
#pragma clang loop unroll_count(4)
    for (int32_t i = 0; i < count; i++) {
        const int8_t *block = weights + 4 * list[i];
        int32_t activation = activations[list[i]] - zero_point;
        sums.s0 += activation * block[0];
        sums.s1 += activation * block[1];
        sums.s2 += activation * block[2];
        sums.s3 += activation * block[3];
    }
    *to = sums;
}

/* What is multiplied: `pitch` channels a pixel of `input`, those of a group from first[group] to first[group + 1], or
 * those of them that `list` names. Of the blocks of weights every block_step-th is wanted. */
struct operands {
    const int8_t *input;
    int32_t pitch;
    const int32_t *first;
    const int32_t *list;
    const int8_t *weights;
    int32_t block_step;
};

/* Sums of (activation - zero point) over the window, for weights with a zero point. */
static int32_t window_sum(const struct layer *layer, const struct operands *from, int32_t group, struct taps y,
                          struct taps x)
{
    int32_t sum = 0;
    for (int32_t i = y.first; i < y.end; i++)
        for (int32_t j = x.first; j < x.end; j++) {
            const int8_t *pixel = from->input + ((y.origin + i) * layer->width + x.origin + j) * from->pitch;
            for (int32_t c = from->first[group]; c < from->first[group + 1]; c++)
                sum += pixel[from->list ? from->list[c] : c] - layer->input_zero_point;
        }
    return sum;
}

/* All results, `listed` ones or not: a constant wherever it is called. */
static inline __attribute__((always_inline)) void convolve(
    const struct layer *layer, struct operands from, int8_t *output, int listed)
{
    int32_t width = layer->out_channels / layer->groups, zero_point = layer->input_zero_point;
    struct requantization by = requantization_of(layer);
    const int8_t *weights = from.weights;
    for (int32_t group = 0; group < layer->groups; group++) {
        int32_t begin = from.first[group], count = from.first[group + 1] - begin;
        int32_t depth = listed ? layer->channels / layer->groups : count;
        int32_t origin = listed ? group * depth : begin;
        for (int32_t block = 0; block < width; block += 4 * layer->block_step) {
            int32_t o = group * width + block, live = width - block < 4 ? width - block : 4;
            struct sums bias = biases(layer->bias, o, live);
            int8_t *out = output + layer->row_begin * layer->columns * layer->out_channels + o;
            for (int32_t row = layer->row_begin; row < layer->row_end; row++) {
                struct taps y = taps_inside(row, layer->stride_y, layer->padding_top, layer->kernel_height,
                                            layer->height);
                for (int32_t column = 0; column < layer->columns; column++, out += layer->out_channels) {
                    struct taps x = taps_inside(column, layer->stride_x, layer->padding_left, layer->kernel_width,
                                                layer->width);
                    struct sums sums = bias;
                    for (int32_t i = y.first; i < y.end; i++) {
                        const int8_t *line = from.input
                            + ((y.origin + i) * layer->width + x.origin + x.first) * from.pitch;
                        const int8_t *taps = weights + (i * layer->kernel_width + x.first) * depth * 4;
                        int32_t inside = x.end - x.first;
                        if (listed)
                            for (; inside > 0; inside--, line += from.pitch, taps += 4 * depth)
                                add_listed(&sums, line, taps - 4 * origin, from.list + begin, count, zero_point);
                        else if (count == from.pitch)
                            add_run(&sums, line, taps, inside * count, zero_point);
                        else
                            for (; inside > 0; inside--, line += from.pitch, taps += 4 * depth)
                                add_run(&sums, line + begin, taps, count, zero_point);
                    }
                    if (layer->weight_zero_point) {
                        int32_t excess = layer->weight_zero_point * window_sum(layer, &from, group, y, x);
                        sums = (struct sums){sums.s0 - excess, sums.s1 - excess, sums.s2 - excess, sums.s3 - excess};
                    }
                    store_results(&by, sums, o, live, out);
                }
            }
            weights += layer->kernel_height * layer->kernel_width * depth * 4 * from.block_step;
        }
    }
}

/* One result: the sum over the window, with weights [kernel_height][kernel_width][depth]. */
static inline __attribute__((always_inline)) int32_t sum_window(const struct layer *layer, int32_t row, int32_t column,
                                                                int32_t first, int32_t depth, const int8_t *weight)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < layer->kernel_height; i++) {
        int32_t y = row * layer->stride_y + i - layer->padding_top;
        for (int32_t j = 0; j < layer->kernel_width; j++) {
            int32_t x = column * layer->stride_x + j - layer->padding_left;
            if (y < 0 || y >= layer->height || x < 0 || x >= layer->width)
                continue;
            const int8_t *pixel = layer->input + (y * layer->width + x) * layer->channels + first;
            const int8_t *tap = weight + (i * layer->kernel_width + j) * depth;
#pragma clang loop unroll(disable)
            for (int32_t c = 0; c < depth; c++)
                sum += (pixel[c] - layer->input_zero_point) * (tap[c] - layer->weight_zero_point);
        }
    }
    return sum;
}

void convolution_naive(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    int8_t *out = output + layer->row_begin * layer->columns * layer->out_channels;
    int32_t depth = layer->channels / layer->groups, width = layer->out_channels / layer->groups;
    int32_t size = layer->kernel_height * layer->kernel_width * depth;
    struct requantization by = requantization_of(layer);
    for (int32_t row = layer->row_begin; row < layer->row_end; row++)
        for (int32_t column = 0; column < layer->columns; column++, out += layer->out_channels)
            for (int32_t block = 0; block < layer->out_channels; block += 4 * layer->block_step)
                for (int32_t o = block; o < block + 4 && o < layer->out_channels; o++)
                    out[o] = result(by, layer->bias[o] + sum_window(layer, row, column, o / width * depth, depth,
                                                                    layer->weights + o * size), o);
    pool_behind(layer, output);
}

void convolution_blocked(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    int32_t *first = (int32_t *)scratch, depth = layer->channels / layer->groups;
    for (int32_t group = 0; group <= layer->groups; group++)
        first[group] = group * depth;
    convolve(layer, (struct operands){layer->input, layer->channels, first, 0, layer->weights,
                                       layer->block_step}, output, 0);
    pool_behind(layer, output);
}

/* The winners' list, and where those of each group begin, at *scratch; returns the list. */
static int32_t *list_groups(const struct layer *layer, int32_t **first, int8_t **scratch)
{
    int32_t *list = (int32_t *)*scratch, depth = layer->channels / layer->groups, count = 0;
    *first = list + layer->channels;
    for (int32_t group = 0; group < layer->groups; group++) {
        (*first)[group] = count;
        int32_t found = list_winners(layer->mask + group * depth, depth, list + count);
        for (int32_t i = 0; i < found; i++)
            list[count + i] += group * depth;
        count += found;
    }
    (*first)[layer->groups] = count;
    *scratch = (int8_t *)(*first + layer->groups + 1);
    return list;
}

void convolution_indexed(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    int32_t *first, *list = list_groups(layer, &first, &scratch);
    convolve(layer, (struct operands){layer->input, layer->channels, first, list, layer->weights,
                                       layer->block_step}, output, 1);
    pool_behind(layer, output);
}

void convolution_packed(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    int32_t *first, *list = list_groups(layer, &first, &scratch), count = first[layer->groups];
    int32_t depth = layer->channels / layer->groups, width = layer->out_channels / layer->groups;

    int8_t *input = scratch, *to = input;
    const int8_t *pixel = layer->input;
    for (int32_t pixels = layer->height * layer->width; pixels > 0; pixels--, pixel += layer->channels)
#pragma clang loop unroll_count(4)
        for (int32_t i = 0; i < count; i++)
            *to++ = pixel[list[i]];

    /* A block of four weights is a word. */
    int32_t *weights = (int32_t *)(((uintptr_t)to + 3) & ~3u), *into = weights;
    const int32_t *taps = (const int32_t *)layer->weights;
    for (int32_t group = 0; group < layer->groups; group++) {
        const int32_t *winners = list + first[group];
        int32_t found = first[group + 1] - first[group], size = layer->kernel_height * layer->kernel_width;
        for (int32_t block = 0; block < (width + 3) / 4; block++, taps += size * depth) {
            if (block % layer->block_step)
                continue;
            const int32_t *tap = taps - group * depth;
            for (int32_t left = size; left > 0; left--, tap += depth)
#pragma clang loop unroll_count(4)
                for (int32_t i = 0; i < found; i++)
                    *into++ = tap[winners[i]];
        }
    }
    convolve(layer, (struct operands){input, count, first, 0, (const int8_t *)weights, 1}, output,
             0);
    pool_behind(layer, output);
}
