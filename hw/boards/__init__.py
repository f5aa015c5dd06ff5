"""Boards: the engine with its memory controller, clocks, reset and host link, for real FPGAs."""
