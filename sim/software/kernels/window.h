/* Windows over a map: which of their taps lie inside it. */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdint.h>

struct taps {
    int32_t origin; /* of tap 0 in the map; negative in the padding */
    int32_t first, end; /* the taps inside */
};

static inline struct taps taps_inside(int32_t position, int32_t stride, int32_t padding, int32_t kernel, int32_t size)
{
    int32_t origin = position * stride - padding;
    return (struct taps){origin, origin < 0 ? -origin : 0, origin + kernel > size ? size - origin : kernel};
}

#endif
