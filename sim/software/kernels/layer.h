/* One layer as the kernels see it: the only definition of it, which sim/software/memory_image.py reads, too.
 *
 * Every member is four bytes. Maps are [height][width][channels] (NHWC), as in TFLite; a winner is a channel that takes
 * part. Weights are prepared offline, for the kernel that is to run:
 *
 *   naive                [out_channels][kernel_height][kernel_width][channels of a group]
 *   the others           [groups][blocks of 4 output channels][kernel_height][kernel_width][channels of a group][4]
 *   depthwise, but naive [blocks of 4 channels][kernel_height][kernel_width][4]
 *
 * where blocks are filled up with weights of zero.
 */
#ifndef LAYER_H
#define LAYER_H

#include <stdint.h>

struct layer {
    int32_t channels;
    int32_t height;
    int32_t width;
    int32_t out_channels;
    int32_t groups;
    int32_t kernel_height;
    int32_t kernel_width;
    int32_t stride_y;
    int32_t stride_x;
    int32_t padding_top;
    int32_t padding_left;
    int32_t rows; /* of the convolution or pooling, before `pool` */
    int32_t columns;
    int32_t input_zero_point;
    int32_t input_2_zero_point;
    int32_t weight_zero_point;
    int32_t output_zero_point;
    int32_t activation_min;
    int32_t activation_max;
    int32_t once; /* sums are rounded once, not twice */
    int32_t ties_up; /* averages between two integers go up, not away from zero */
    int32_t pool_height; /* of the max-pool behind a convolution; 0 for none */
    int32_t pool_width;
    int32_t pool_stride_y;
    int32_t pool_stride_x;
    int32_t pool_top;
    int32_t pool_left;
    int32_t out_columns; /* of `output` */
    int32_t row_begin; /* What is to be computed: rows, and those of the map behind the pool */
    int32_t row_end;
    int32_t pool_begin;
    int32_t pool_end;
    int32_t block_step; /* of the blocks of output channels every how many-th */
    int32_t multiplier; /* of a mean's sum, or of an addition's */
    int32_t shift;
    int32_t input_multiplier;
    int32_t input_shift;
    int32_t input_2_multiplier;
    int32_t input_2_shift;
    int32_t score; /* SCORE_ */
    int32_t score_multiplier;
    int32_t score_shift;
    int32_t select; /* SELECT_ */
    int32_t select_value; /* k, 65536 times the share of energy, or the least winning score */
    int32_t energy_power;
    const int8_t *input;
    const int8_t *input_2;
    const uint8_t *mask; /* of `input`'s channels: 1 takes part */
    const uint8_t *mask_2;
    const int8_t *weights;
    const int32_t *bias;
    const int32_t *multipliers;
    const int32_t *shifts;
    int8_t *output;
    uint8_t *scores;
    uint8_t *winners;
    void *scratch;
};

enum { SCORE_MAX, SCORE_ABSMAX, SCORE_MEAN };
enum { SELECT_ALL, SELECT_TOPK, SELECT_ENERGY, SELECT_THRESHOLD };

#endif
