/* Depthwise convolutions: every result from one input channel. A naive one is convolution_naive.
 *
 *   blocked  four channels at a time
 *   indexed  four winners at a time, where they lie
 *   packed   the winners' activations and weights are gathered first, and then blocked; the results are scattered
 *
 * A loser's results are those of its bias. Pixels are the outer loop: what a line of the cache holds of a pixel's
 * channels is used at once.
 */
#include "kernels.h"
#include "requantize.h"
#include "window.h"
#include "winners.h"

/* `count` channels of `input`, `pitch` a pixel, which are channel[0..count] of the layer (null: the same). `where`: of
 * each the offset of its first weight and of its pixels, or null where they lie side by side. */
struct operands {
    const int8_t *input, *weights;
    int32_t pitch, count;
    const int32_t *channel, *where;
};

static inline void store(struct requantization by, int32_t sum, const int32_t *bias, int32_t o, int8_t *output)
{
    output[o] = result(by, sum + bias[o], o);
}

static inline __attribute__((always_inline)) void convolve(
    const struct layer *layer, struct operands from, int32_t weight_zero_point, int listed, int8_t *output)
{
    int32_t zero_point = layer->input_zero_point, taps = layer->kernel_height * layer->kernel_width;
    struct requantization by = requantization_of(layer);
    output += layer->row_begin * layer->columns * layer->out_channels;
    for (int32_t row = layer->row_begin; row < layer->row_end; row++) {
        struct taps y = taps_inside(row, layer->stride_y, layer->padding_top, layer->kernel_height, layer->height);
        for (int32_t column = 0; column < layer->columns; column++, output += layer->out_channels) {
            struct taps x = taps_inside(column, layer->stride_x, layer->padding_left, layer->kernel_width,
                                        layer->width);
            const int8_t *origin = from.input
                + ((y.origin + y.first) * layer->width + x.origin + x.first) * from.pitch;
            const int8_t *first_tap = from.weights + (y.first * layer->kernel_width + x.first) * 4;
            for (int32_t c = 0; c < from.count; c += 4) {
                int32_t live = from.count - c < 4 ? from.count - c : 4;
                const int32_t *channel = from.channel + c, *where = from.where + c;
                const int8_t *pixels[4], *weights[4];
                for (int32_t i = 0; i < 4; i++) {
                    pixels[i] = listed ? origin + channel[i] : origin + c + i;
                    weights[i] = listed ? first_tap + where[i] : first_tap + c * taps + i;
                }
                struct sums sums = {0, 0, 0, 0};
                int32_t at = 0, tap = 0;
                for (int32_t i = y.end - y.first; i > 0; i--) {
#pragma clang loop unroll(disable)
                    for (int32_t left = x.end - x.first; left > 0; left--, at += from.pitch, tap += 4) {
                        sums.s0 += (pixels[0][at] - zero_point) * (weights[0][tap] - weight_zero_point);
                        sums.s1 += (pixels[1][at] - zero_point) * (weights[1][tap] - weight_zero_point);
                        sums.s2 += (pixels[2][at] - zero_point) * (weights[2][tap] - weight_zero_point);
                        sums.s3 += (pixels[3][at] - zero_point) * (weights[3][tap] - weight_zero_point);
                    }
                    at += (layer->width - (x.end - x.first)) * from.pitch;
                    tap += (layer->kernel_width - (x.end - x.first)) * 4;
                }
                if (from.channel) {
                    store(by, sums.s0, layer->bias, channel[0], output);
                    if (live > 1)
                        store(by, sums.s1, layer->bias, channel[1], output);
                    if (live > 2)
                        store(by, sums.s2, layer->bias, channel[2], output);
                    if (live > 3)
                        store(by, sums.s3, layer->bias, channel[3], output);
                } else {
                    struct sums bias = biases(layer->bias, c, live);
                    sums = (struct sums){sums.s0 + bias.s0, sums.s1 + bias.s1, sums.s2 + bias.s2, sums.s3 + bias.s3};
                    store_results(&by, sums, c, live, output + c);
                }
            }
        }
    }
}

/* Weights without a zero point, which are the rule, are not subtracted one from. */
static inline __attribute__((always_inline)) void convolve_any(const struct layer *layer, struct operands from,
                                                               int listed, int8_t *output)
{
    if (layer->weight_zero_point)
        convolve(layer, from, layer->weight_zero_point, listed, output);
    else
        convolve(layer, from, 0, listed, output);
}

static void fill_losers(const struct layer *layer, int8_t *output)
{
    struct requantization by = requantization_of(layer);
    for (int32_t c = 0; c < layer->channels; c++) {
        if (layer->mask[c])
            continue;
        int8_t value = result(by, layer->bias[c], c);
        int8_t *out = output + layer->row_begin * layer->columns * layer->out_channels + c;
        for (int32_t left = (layer->row_end - layer->row_begin) * layer->columns; left > 0; left--, out += layer->out_channels)
            *out = value;
    }
}

void depthwise_blocked(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    convolve_any(layer, (struct operands){layer->input, layer->weights, layer->channels, layer->channels, 0, 0}, 0,
                 output);
    pool_behind(layer, output);
}

void depthwise_indexed(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    int32_t *list = (int32_t *)scratch, count = list_winners(layer->mask, layer->channels, list);
    int32_t *where = list + layer->channels + 4, taps = layer->kernel_height * layer->kernel_width;
    for (int32_t i = count; i < count + 4; i++)
        list[i] = 0; /* lanes that are not stored */
    for (int32_t i = 0; i < count + 4; i++)
        where[i] = list[i] / 4 * taps * 4 + list[i] % 4;
    convolve_any(layer, (struct operands){layer->input, layer->weights, layer->channels, count, list, where}, 1,
                 output);
    fill_losers(layer, output);
    pool_behind(layer, output);
}

void depthwise_packed(const struct layer *layer)
{
    int8_t *scratch, *output = before_pool(layer, &scratch);
    int32_t *list = (int32_t *)scratch, count = list_winners(layer->mask, layer->channels, list);
    int32_t taps = layer->kernel_height * layer->kernel_width;

    int8_t *weights = (int8_t *)(list + layer->channels);
    for (int32_t w = 0; w < count; w++) {
        const int8_t *from = layer->weights + list[w] / 4 * taps * 4 + list[w] % 4;
        int8_t *to = weights + w / 4 * taps * 4 + w % 4;
        for (int32_t tap = 0; tap < taps; tap++)
            to[4 * tap] = from[4 * tap];
    }
    int8_t *input = weights + (count + 3) / 4 * taps * 4, *to = input;
    const int8_t *pixel = layer->input;
    for (int32_t pixels = layer->height * layer->width; pixels > 0; pixels--, pixel += layer->channels)
#pragma clang loop unroll_count(4)
        for (int32_t i = 0; i < count; i++)
            *to++ = pixel[list[i]];
    convolve_any(layer, (struct operands){input, weights, count, count, list, 0}, 0, output);
    fill_losers(layer, output);
    pool_behind(layer, output);
}
