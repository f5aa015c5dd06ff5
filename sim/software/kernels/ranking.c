/* Scores of a layer's output channels, and the selection of the winners: a histogram, as in the engine.
 *
 * A layer without a ranking has neither, and this kernel is not run.
 */
#include "kernels.h"
#include "requantize.h"

/* Pixels are the outer loop: what a line of the cache holds of a pixel's channels is used at once. */
static void score_channels(const struct layer *layer)
{
    int32_t pixels = (layer->row_end - layer->row_begin) * layer->out_columns, channels = layer->out_channels;
    int32_t zero_point = layer->output_zero_point, *high = layer->scratch, *low = high + channels, *sum = low;
    const int8_t *pixel = layer->output + layer->row_begin * layer->out_columns * channels;
    for (int32_t c = 0; c < channels; c++) {
        high[c] = -128;
        low[c] = layer->score == SCORE_MEAN ? 0 : 127;
    }
    if (layer->score == SCORE_MEAN) {
        for (int32_t left = pixels; left > 0; left--, pixel += channels)
#pragma clang loop unroll_count(4)
            for (int32_t c = 0; c < channels; c++)
                sum[c] += pixel[c];
    } else if (layer->score == SCORE_MAX) {
        for (int32_t left = pixels; left > 0; left--, pixel += channels)
#pragma clang loop unroll_count(4)
            for (int32_t c = 0; c < channels; c++)
                if (pixel[c] > high[c])
                    high[c] = pixel[c];
    } else {
        for (int32_t left = pixels; left > 0; left--, pixel += channels)
#pragma clang loop unroll_count(4)
            for (int32_t c = 0; c < channels; c++) {
                if (pixel[c] > high[c])
                    high[c] = pixel[c];
                if (pixel[c] < low[c])
                    low[c] = pixel[c];
            }
    }
    for (int32_t c = 0; c < channels; c++) {
        int32_t score = high[c] - zero_point;
        if (layer->score == SCORE_MEAN)
            score = requantize(sum[c] - pixels * zero_point, layer->score_multiplier, layer->score_shift);
        else if (layer->score == SCORE_ABSMAX && zero_point - low[c] > score)
            score = zero_point - low[c];
        layer->scores[c] = (uint8_t)clamp(score, 0, 255);
    }
}

void rank(const struct layer *layer)
{
    int32_t channels = layer->out_channels;
    score_channels(layer);

    /* Scores above `threshold` win, and of those equal to it the first `ties`. */
    int32_t threshold = layer->select_value, ties = channels;
    if (layer->select == SELECT_ALL) {
        threshold = 0;
    } else if (layer->select != SELECT_THRESHOLD) {
        int32_t *histogram = layer->scratch;
        for (int32_t score = 0; score < 256; score++)
            histogram[score] = 0;
        uint64_t whole = 0, found = 0;
        for (int32_t c = 0; c < channels; c++) {
            uint32_t score = layer->scores[c];
            histogram[score]++;
            whole += layer->energy_power == 2 ? score * score : score;
        }
        uint64_t wanted = whole * (uint32_t)layer->select_value;
        ties = 0;
        if (layer->select == SELECT_TOPK) {
            int32_t left = layer->select_value;
            for (threshold = 255; histogram[threshold] < left; threshold--)
                left -= histogram[threshold];
            ties = left;
        } else {
            int32_t none = 1;
            for (threshold = 255;; threshold--) {
                uint32_t each = layer->energy_power == 2 ? (uint32_t)(threshold * threshold) : (uint32_t)threshold;
                for (ties = 0; ties < histogram[threshold] && (none || found * 65536 < wanted); ties++, none = 0)
                    found += each;
                if (ties < histogram[threshold] || (!none && found * 65536 >= wanted))
                    break;
            }
        }
    }
    for (int32_t c = 0; c < channels; c++) {
        int32_t score = layer->scores[c], wins = score > threshold || (score == threshold && ties > 0);
        ties -= score == threshold && wins;
        layer->winners[c] = (uint8_t)wins;
    }
}
