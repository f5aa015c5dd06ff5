"""Simulation of the engine: the cocotb harness on Verilator, the memory models, and the analytical model."""
