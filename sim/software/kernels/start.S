/* From reset: a trap ends the run, and the stack grows down from the layer. */
    .section .text.entry
    .globl entry
entry:
    la t0, trapped
    csrw mtvec, t0
    la sp, layer
    j start
