// The parts of lz4.h and zlib.h that Verilator's FST writer uses, so that waves need no development packages.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

// zlib: only "store". The FST writer keeps the plain data where compression does not make it smaller.

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0;

inline uLong compressBound(uLong size) { return size; }

inline int compress2(Bytef *target, uLongf *target_size, const Bytef *source, uLong size, int) {
    std::memcpy(target, source, size);
    *target_size = size;
    return Z_OK;
}

// LZ4 block format: sequences of (token, literals, 16-bit offset, match), the last one literals alone.

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

inline int LZ4_compress_default(const char *source, char *target, int size, int) {
    constexpr int MIN_MATCH = 4, LAST_LITERALS = 5, LAST_MATCH_START = 12, MAX_OFFSET = 65535, HASH_BITS = 12;
    static thread_local std::vector<int> last_position;
    last_position.assign(1 << HASH_BITS, -1);
    char *out = target;
    auto write_length = [&](int length) {
        for (; length >= 255; length -= 255) *out++ = static_cast<char>(255);
        *out++ = static_cast<char>(length);
    };
    auto write_sequence = [&](int begin, int end, int offset, int match) {
        const int literals = end - begin, extra = match - MIN_MATCH;
        const int high = literals < 15 ? literals : 15, low = offset == 0 ? 0 : extra < 15 ? extra : 15;
        *out++ = static_cast<char>(high << 4 | low);
        if (high == 15) write_length(literals - 15);
        std::memcpy(out, source + begin, literals);
        out += literals;
        if (offset == 0) return;
        *out++ = static_cast<char>(offset & 255);
        *out++ = static_cast<char>(offset >> 8);
        if (low == 15) write_length(extra - 15);
    };
    int begin = 0;
    for (int at = 0; at + LAST_MATCH_START < size;) {
        uint32_t word;
        std::memcpy(&word, source + at, sizeof word);
        int &previous = last_position[word * 2654435761u >> (32 - HASH_BITS)];
        const int candidate = previous;
        previous = at;
        int match = 0;
        if (candidate >= 0 && at - candidate <= MAX_OFFSET)
            while (at + match < size - LAST_LITERALS && source[candidate + match] == source[at + match]) match++;
        if (match < MIN_MATCH) {
            at++;
            continue;
        }
        write_sequence(begin, at, at - candidate, match);
        at += match;
        begin = at;
    }
    write_sequence(begin, size, 0, 0);
    return static_cast<int>(out - target);
}
