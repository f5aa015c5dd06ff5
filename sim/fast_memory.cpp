// Storage behind fast_memory.sv: one host buffer, attached from Python (ctypes) in the simulator's own process.

#include <cstdint>
#include <cstring>

namespace {
uint8_t *memory = nullptr;
uint64_t memory_size = 0;                   // bytes
uint64_t window_base = 0, window_limit = 0;  // what may be written, the end exclusive
uint64_t fault_base = 0, fault_limit = 0;    // what answers an error, the end exclusive
uint8_t fault_response = 0;
}  // namespace

extern "C" {

// The buffer must outlive the simulation or the next attach; an access beyond `size` answers SLVERR.
void memory_attach(void *buffer, uint64_t size, uint64_t base, uint64_t limit) {
    memory = static_cast<uint8_t *>(buffer);
    memory_size = size;
    window_base = base;
    window_limit = limit;
    fault_base = fault_limit = 0;
}

// Beats that touch [base, limit) answer `response` (2 SLVERR, 3 DECERR) until the next attach.
void memory_fault(uint64_t base, uint64_t limit, uint8_t response) {
    fault_base = base;
    fault_limit = limit;
    fault_response = response;
}

unsigned char memory_response(unsigned long long address, unsigned int bytes) {
    if (address < fault_limit && address + bytes > fault_base) return fault_response;
    return address + bytes > memory_size ? 2 : 0;
}

unsigned long long memory_read(unsigned long long address) {
    uint64_t data = 0;
    if (address + sizeof data <= memory_size) std::memcpy(&data, memory + address, sizeof data);
    else std::memcpy(&data, memory + address, memory_size - address);
    return data;
}

unsigned char memory_write(unsigned long long address, unsigned long long data, unsigned char strobe) {
    for (int i = 0; i < 8; i++) {
        if (!(strobe >> i & 1)) continue;
        if (address + i < window_base || address + i >= window_limit) return 1;
        memory[address + i] = static_cast<uint8_t>(data >> (8 * i));
    }
    return 0;
}
}
