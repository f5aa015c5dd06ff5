"""AXI4 and AXI4-Lite as this project uses them: one ID, data in order, INCR bursts of full width."""

from amaranth.lib.wiring import In, Out, Signature

ADDRESS_BITS = 32
REGISTER_ADDRESS_BITS = 16


class AxiSignature(Signature):
    """A master's side of AXI4: bursts of ``length + 1`` <= 16 beats of ``data_bits``, aligned to a beat, that do not
    cross a 4 KiB page. One ID, so that responses come in order; size, burst and the other attributes are constant.

    Members ``ar_*``, ``r_*``, ``aw_*``, ``w_*``, ``b_*`` with AXI's handshakes; responses are AXI's (0: OKAY).
    """

    def __init__(self, *, data_bits: int):
        self.data_bits = data_bits
        super().__init__({
            "ar_valid": Out(1), "ar_ready": In(1), "ar_address": Out(ADDRESS_BITS), "ar_length": Out(8),
            "r_valid": In(1), "r_ready": Out(1), "r_data": In(data_bits), "r_response": In(2), "r_last": In(1),
            "aw_valid": Out(1), "aw_ready": In(1), "aw_address": Out(ADDRESS_BITS), "aw_length": Out(8),
            "w_valid": Out(1), "w_ready": In(1), "w_data": Out(data_bits), "w_strobe": Out(data_bits // 8),
            "w_last": Out(1), "b_valid": In(1), "b_ready": Out(1), "b_response": In(2),
        })


class AxiLiteSignature(Signature):
    """A master's side of AXI4-Lite, 32 bits wide, all four strobes set."""

    def __init__(self):
        super().__init__({
            "aw_valid": Out(1), "aw_ready": In(1), "aw_address": Out(REGISTER_ADDRESS_BITS),
            "w_valid": Out(1), "w_ready": In(1), "w_data": Out(32),
            "b_valid": In(1), "b_ready": Out(1), "b_response": In(2),
            "ar_valid": Out(1), "ar_ready": In(1), "ar_address": Out(REGISTER_ADDRESS_BITS),
            "r_valid": In(1), "r_ready": Out(1), "r_data": In(32), "r_response": In(2),
        })
