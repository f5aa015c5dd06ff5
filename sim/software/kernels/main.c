/* Runs the kernel and tells the computer around it when it began and when it ended. */
#include "layer.h"

/* The linker says where the layer is, and which kernel this is (sim/software/compiler.py): a program of one kernel fits
 * the instruction cache, whatever the others' size. */
extern const struct layer layer;
void kernel(const struct layer *layer);

/* What sim/software/core.cpp listens to. Nothing above 2 GiB is cached. */
#define REPORT (*(volatile uint32_t *)0xf0000000)
#define WHERE (*(volatile uint32_t *)0xf0000004)

enum { BEGIN = 1, END = 2, TRAP = 3 };

void start(void)
{
    REPORT = BEGIN;
    kernel(&layer);
    REPORT = END;
    for (;;)
        ;
}

void trapped(void)
{
    uint32_t address;
    __asm__("csrr %0, mepc" : "=r"(address));
    WHERE = address;
    REPORT = TRAP;
    for (;;)
        ;
}
