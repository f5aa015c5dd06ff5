// VexRiscv with its memory: runs the program of an image, and tells the cycles of what it reports.
//
//   simulator IMAGE OUTPUT FIRST LAST LIMIT LATENCY
//
// The image is the memory from address 0, where the core starts; no address beyond it may be used. When the program
// has reported its end, the bytes FIRST..LAST are written to OUTPUT and the cycles from its beginning to its end
// printed. Instructions and data have a port each: the first word of a burst comes LATENCY cycles after its address,
// every other one a cycle later; writes are posted, one a cycle. Exit status 1, and a line that says why, on a bus
// error, a trap, or LIMIT cycles without an end.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr uint32_t REPORT = 0xf0000000u, WHERE = 0xf0000004u;
enum { BEGIN = 1, END = 2, TRAP = 3 };
constexpr uint32_t BURST_GOES_ON = 2;  // Wishbone B4: CTI of an incrementing burst but its last word

std::vector<uint32_t> memory;

[[noreturn]] void fail(const char* what, uint32_t address) {
    std::printf("%s at address 0x%08x\n", what, address);
    std::exit(1);
}

uint32_t& word(uint32_t address) {
    if (address / 4 >= memory.size()) fail("bus error", address);
    return memory[address / 4];
}

// Counts down to a burst's first word.
class Port {
public:
    explicit Port(int latency) : latency_(latency), left_(latency) {}

    // Whether the request of this cycle is answered in it.
    bool answers(bool request, bool write, uint32_t cycle_type) {
        if (!request) return false;
        if (!write && left_-- > 0) return false;
        left_ = !write && cycle_type == BURST_GOES_ON ? 0 : latency_;
        return true;
    }

private:
    int latency_, left_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7) return 2;
    std::FILE* image = std::fopen(argv[1], "rb");
    if (!image) return 2;
    std::fseek(image, 0, SEEK_END);
    memory.resize((std::ftell(image) + 3) / 4);
    std::rewind(image);
    if (std::fread(memory.data(), 1, memory.size() * 4, image) == 0) return 2;
    std::fclose(image);
    const uint32_t first = std::strtoul(argv[3], nullptr, 0), last = std::strtoul(argv[4], nullptr, 0);
    const uint64_t limit = std::strtoull(argv[5], nullptr, 0);
    const int latency = std::atoi(argv[6]);

    VerilatedContext context;
    Vtop top(&context);
    Port instructions(latency), data(latency);
    top.externalResetVector = 0;
    top.timerInterrupt = top.softwareInterrupt = 0;
    top.externalInterruptArray = 0;
    top.iBusWishbone_ERR = top.dBusWishbone_ERR = 0;
    top.reset = 1;
    uint64_t begin = 0;
    uint32_t where = 0;
    for (uint64_t cycle = 0; cycle < limit; cycle++) {
        top.reset = cycle < 4;
        top.clk = 0;
        top.iBusWishbone_ACK = top.dBusWishbone_ACK = 0;
        top.eval();
        if (!top.reset) {
            if (instructions.answers(top.iBusWishbone_CYC && top.iBusWishbone_STB, false, top.iBusWishbone_CTI)) {
                top.iBusWishbone_ACK = 1;
                top.iBusWishbone_DAT_MISO = word(top.iBusWishbone_ADR << 2);
            }
            if (data.answers(top.dBusWishbone_CYC && top.dBusWishbone_STB, top.dBusWishbone_WE, top.dBusWishbone_CTI)) {
                const uint32_t address = top.dBusWishbone_ADR << 2;
                top.dBusWishbone_ACK = 1;
                if (!top.dBusWishbone_WE) {
                    top.dBusWishbone_DAT_MISO = word(address);
                } else if (address == REPORT) {
                    const uint32_t report = top.dBusWishbone_DAT_MOSI;
                    if (report == BEGIN) begin = cycle;
                    if (report == TRAP) fail("trap", where);
                    if (report == END) {
                        std::FILE* output = std::fopen(argv[2], "wb");
                        if (!output || last > memory.size() * 4) return 2;
                        std::fwrite(reinterpret_cast<char*>(memory.data()) + first, 1, last - first, output);
                        std::fclose(output);
                        std::printf("%llu\n", static_cast<unsigned long long>(cycle - begin));
                        return 0;
                    }
                } else if (address == WHERE) {
                    where = top.dBusWishbone_DAT_MOSI;
                } else {
                    uint32_t mask = 0;
                    for (int byte = 0; byte < 4; byte++)
                        if (top.dBusWishbone_SEL >> byte & 1) mask |= 0xffu << 8 * byte;
                    uint32_t& to = word(address);
                    to = (to & ~mask) | (top.dBusWishbone_DAT_MOSI & mask);
                }
            }
            top.eval();
        }
        top.clk = 1;
        top.eval();
    }
    std::printf("no end after %llu cycles\n", static_cast<unsigned long long>(limit));
    return 1;
}
