/* Poolings and means, of which a loser's results are those of a map of zero points.
 *
 *   naive    one result after the other
 *   blocked  four channels at a time
 *   indexed  four winners at a time; the losers' results are written
 */
#include "kernels.h"
#include "requantize.h"
#include "window.h"
#include "winners.h"

enum kind { MAX, AVERAGE, MEAN };

struct window {
    int32_t height, width, stride_y, stride_x, top, left, begin, end, columns;
};

static int8_t pooled(const struct layer *layer, enum kind kind, int32_t value, int32_t count)
{
    if (kind == AVERAGE && layer->ties_up) {
        value += count / 2;
        value = value < 0 ? -((count - 1 - value) / count) : value / count;
    } else if (kind == AVERAGE) {
        value = (value > 0 ? value + count / 2 : value - count / 2) / count;
    } else if (kind == MEAN) {
        value -= layer->input_zero_point * count;
        value = requantize(value, layer->multiplier, layer->shift) + layer->output_zero_point;
    }
    return (int8_t)clamp(value, layer->activation_min, layer->activation_max);
}

/* Channels channel[0..count] (null: all), `lanes` at a time, of every window of a map [height][width][channels]. Pixels
 * are the outer loop: what a line of the cache holds of a pixel's channels is used at once. */
static inline __attribute__((always_inline)) void pool(
    const struct layer *layer, enum kind kind, const struct window *window, const int8_t *map, int32_t height,
    int32_t width, int32_t channels, const int32_t *channel, int32_t count, int32_t lanes, int clamped, int8_t *output)
{
    int32_t start = kind == MAX ? -128 : 0;
    output += window->begin * window->columns * channels;
    for (int32_t row = window->begin; row < window->end; row++) {
        struct taps y = taps_inside(row, window->stride_y, window->top, window->height, height);
        for (int32_t column = 0; column < window->columns; column++, output += channels) {
            struct taps x = taps_inside(column, window->stride_x, window->left, window->width, width);
            const int8_t *origin = map + ((y.origin + y.first) * width + x.origin + x.first) * channels;
            int32_t pixel_count = (y.end - y.first) * (x.end - x.first);
            for (int32_t c = 0; c < count; c += lanes) {
                int32_t live = count - c < lanes ? count - c : lanes;
                const int8_t *pixels[4];
                int32_t v[4] = {start, start, start, start}, at = 0;
                for (int32_t lane = 0; lane < lanes; lane++)
                    pixels[lane] = origin + (channel ? channel[c + (lane < live ? lane : 0)] : c + lane);
                for (int32_t i = y.end - y.first; i > 0; i--) {
#pragma clang loop unroll(disable)
                    for (int32_t left = x.end - x.first; left > 0; left--, at += channels)
#pragma clang loop unroll(full)
                        for (int32_t lane = 0; lane < lanes; lane++) {
                            int32_t pixel = pixels[lane][at];
                            v[lane] = kind != MAX ? v[lane] + pixel : pixel > v[lane] ? pixel : v[lane];
                        }
                    at += (width - (x.end - x.first)) * channels;
                }
                for (int32_t lane = 0; lane < live; lane++)
                    output[channel ? channel[c + lane] : c + lane]
                        = clamped ? pooled(layer, kind, v[lane], pixel_count) : (int8_t)v[lane];
            }
        }
    }
}

static struct window window_of(const struct layer *layer)
{
    return (struct window){layer->kernel_height, layer->kernel_width, layer->stride_y, layer->stride_x,
                           layer->padding_top, layer->padding_left, layer->row_begin, layer->row_end,
                           layer->columns};
}

static inline __attribute__((always_inline)) void all(const struct layer *layer, enum kind kind, int32_t lanes)
{
    struct window window = window_of(layer);
    pool(layer, kind, &window, layer->input, layer->height, layer->width, layer->channels, 0, layer->channels, lanes,
         1, layer->output);
}

static inline __attribute__((always_inline)) void indexed(const struct layer *layer, enum kind kind)
{
    struct window window = window_of(layer);
    int32_t *list = layer->scratch, count = list_winners(layer->mask, layer->channels, list);
    pool(layer, kind, &window, layer->input, layer->height, layer->width, layer->channels, list, count, 4, 1,
         layer->output);
    int8_t zero = pooled(layer, kind, kind == MEAN ? 0 : layer->input_zero_point, kind == MEAN ? 0 : 1);
    for (int32_t c = 0; c < layer->channels; c++) {
        int8_t *out = layer->output + layer->row_begin * layer->columns * layer->channels + c;
        if (!layer->mask[c])
            for (int32_t left = (layer->row_end - layer->row_begin) * layer->columns; left > 0; left--, out += layer->channels)
                *out = zero;
    }
}

void max_pool_naive(const struct layer *layer) { all(layer, MAX, 1); }
void max_pool_blocked(const struct layer *layer) { all(layer, MAX, 4); }
void max_pool_indexed(const struct layer *layer) { indexed(layer, MAX); }
void average_pool_naive(const struct layer *layer) { all(layer, AVERAGE, 1); }
void average_pool_blocked(const struct layer *layer) { all(layer, AVERAGE, 4); }
void average_pool_indexed(const struct layer *layer) { indexed(layer, AVERAGE); }
void mean_naive(const struct layer *layer) { all(layer, MEAN, 1); }
void mean_blocked(const struct layer *layer) { all(layer, MEAN, 4); }
void mean_indexed(const struct layer *layer) { indexed(layer, MEAN); }

int8_t *before_pool(const struct layer *layer, int8_t **scratch)
{
    *scratch = layer->scratch;
    if (layer->pool_height == 0)
        return layer->output;
    int8_t *map = *scratch;
    *scratch += (layer->rows * layer->columns * layer->out_channels + 3) & ~3;
    return map;
}

void pool_behind(const struct layer *layer, const int8_t *map)
{
    if (layer->pool_height == 0)
        return;
    struct window window = {layer->pool_height, layer->pool_width, layer->pool_stride_y, layer->pool_stride_x,
                            layer->pool_top, layer->pool_left, layer->pool_begin, layer->pool_end,
                            layer->out_columns};
    pool(layer, MAX, &window, map, layer->rows, layer->columns, layer->out_channels, 0, layer->out_channels, 4, 0,
         layer->output);
}
