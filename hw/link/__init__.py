"""The host link: requests over a UART to the engine's registers and memory, and the client that sends them."""
