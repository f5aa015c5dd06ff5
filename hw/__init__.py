"""The Winnow engine in Amaranth HDL, and what software needs to drive it (configuration, descriptor, lowering)."""
