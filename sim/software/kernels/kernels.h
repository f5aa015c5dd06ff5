/* Every kernel takes the layer at its address and leaves `output`, or `scores` and `winners`. */
#ifndef KERNELS_H
#define KERNELS_H

#include "layer.h"

void convolution_naive(const struct layer *layer);
void convolution_blocked(const struct layer *layer);
void convolution_indexed(const struct layer *layer);
void convolution_packed(const struct layer *layer);
void depthwise_blocked(const struct layer *layer);
void depthwise_indexed(const struct layer *layer);
void depthwise_packed(const struct layer *layer);
void max_pool_naive(const struct layer *layer);
void max_pool_blocked(const struct layer *layer);
void max_pool_indexed(const struct layer *layer);
void average_pool_naive(const struct layer *layer);
void average_pool_blocked(const struct layer *layer);
void average_pool_indexed(const struct layer *layer);
void mean_naive(const struct layer *layer);
void mean_blocked(const struct layer *layer);
void mean_indexed(const struct layer *layer);
void addition_naive(const struct layer *layer);
void addition_blocked(const struct layer *layer);
void addition_indexed(const struct layer *layer);
void rank(const struct layer *layer);

/* Where a convolution goes: to the output, or, where a max-pool is behind it, to the scratch memory. *scratch: the
 * first byte of that which is left. */
int8_t *before_pool(const struct layer *layer, int8_t **scratch);

/* The max-pool behind a convolution from the map of before_pool to the output; nothing where there is none. */
void pool_behind(const struct layer *layer, const int8_t *map);

#endif
