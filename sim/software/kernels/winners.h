/* Winners as an index list. */
#ifndef WINNERS_H
#define WINNERS_H

#include <stdint.h>

/* Write the indices whose mask is 1 to `list`; returns how many. */
static inline int32_t list_winners(const uint8_t *mask, int32_t channels, int32_t *list)
{
    int32_t *end = list;
    for (int32_t c = 0; c < channels; c++)
        if (mask[c])
            *end++ = c;
    return (int32_t)(end - list);
}

#endif
