"""Times of the SDR SDRAM chips that the ULX3S carries, in nanoseconds and in clock cycles."""

from dataclasses import dataclass

MINIMA = ("t_rcd", "t_rp", "t_ras", "t_rc", "t_rrd", "t_wr", "t_rfc", "t_mrd")


@dataclass(frozen=True, kw_only=True)
class SdramTiming:
    """Times to keep at a clock frequency: of each, the slowest of the three chips that boards are made with.

    IS42S16160G-7 (ISSI, IS42S83200G/IS42S16160G datasheet, Rev. F, AC Electrical Characteristics), AS4C16M16SA-7
    (Alliance Memory, AS4C16M16SA-C&I datasheet, Rev. 3.0, Table 16) and W9825G6KH-6 (Winbond, W9825G6KH datasheet,
    Rev. A04, 9.5 AC Characteristics).

    Parameters
    ----------
    clock_hz:
        Frequency of the controller and the chip, 25 to 133 MHz.
    t_rcd_ns, t_rp_ns, t_ras_ns, t_rc_ns, t_rrd_ns, t_wr_ns, t_rfc_ns, t_mrd_ns:
        The datasheets' tRCD (ACTIVE to READ or WRITE), tRP (PRECHARGE to ACTIVE), tRAS (ACTIVE to PRECHARGE), tRC
        (ACTIVE to ACTIVE of a bank), tRRD (of two banks), tWR (last data written to PRECHARGE; ISSI: tDPL), tRFC
        (AUTO REFRESH to the next command; ISSI and Winbond: tRC) and tMRD (LOAD MODE to the next command; Winbond:
        tRSC).
    least_cycles:
        tRRD, tWR and tMRD are at least so many cycles.
    t_refi_ns:
        One AUTO REFRESH is done in each such interval: 64 ms over 8192 rows, rounded down.
    startup_ns:
        Pause between power-up and the first command.
    cas2_period_ns:
        Shortest clock period for CAS latency 2.

    Raises ``ValueError`` for a frequency out of range.
    """

    clock_hz: int
    t_rcd_ns: int = 21  # AS4C16M16SA; the others 15
    t_rp_ns: int = 21  # AS4C16M16SA; the others 15
    t_ras_ns: int = 42  # AS4C16M16SA, W9825G6KH; IS42S16160G 37
    t_rc_ns: int = 63  # AS4C16M16SA; the others 60
    t_rrd_ns: int = 14  # AS4C16M16SA, IS42S16160G
    t_wr_ns: int = 14  # AS4C16M16SA, IS42S16160G
    t_rfc_ns: int = 63  # AS4C16M16SA; the others 60
    t_mrd_ns: int = 14  # AS4C16M16SA, IS42S16160G
    least_cycles: int = 2  # W9825G6KH
    t_refi_ns: int = 7_800  # AS4C16M16SA
    startup_ns: int = 200_000  # AS4C16M16SA, W9825G6KH; IS42S16160G 100 us
    cas2_period_ns: int = 10  # AS4C16M16SA; W9825G6KH 7.5

    def __post_init__(self):
        if not 25_000_000 <= self.clock_hz <= 134_000_000:
            raise ValueError(f"clock_hz: expected 25_000_000..134_000_000, got {self.clock_hz}")

    def cycles(self, name: str) -> int:
        """Clock cycles of one of :data:`MINIMA`."""
        least = self.least_cycles if name in ("t_rrd", "t_wr", "t_mrd") else 1
        return max(least, -(-getattr(self, f"{name}_ns") * self.clock_hz // 1_000_000_000))

    @property
    def cas_latency(self) -> int:
        """Cycles from READ to its first word: 2, or 3 where the clock is too fast for 2."""
        return 2 if self.cas2_period_ns * self.clock_hz <= 1_000_000_000 else 3

    @property
    def refresh_interval(self) -> int:
        """Cycles from one AUTO REFRESH falling due to the next."""
        return self.t_refi_ns * self.clock_hz // 1_000_000_000

    @property
    def startup_intervals(self) -> int:
        """Refresh intervals that make up the pause after power-up."""
        return -(-self.startup_ns * self.clock_hz // (1_000_000_000 * self.refresh_interval))
