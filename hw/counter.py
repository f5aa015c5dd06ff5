"""A loop's counter that knows a step ahead that it will be at its last."""

from amaranth.hdl import Signal


class Countdown:
    """The steps of a loop: ``left``, that in work among them, and ``last``, there is no other behind it.

    ``last`` is a register, found out with the step before, so that nothing is compared in the cycle that asks.
    :meth:`start` and :meth:`step` give the assignments for ``m.d.sync``.
    """

    def __init__(self, bits: int, *, name: str):
        self.left, self.last = Signal(bits, name=f"{name}_left", reset_less=True), Signal(name=f"{name}_last")

    def start(self, count):
        """The first of ``count`` steps, 1 at least, is in work from the next cycle on."""
        return [self.left.eq(count), self.last.eq(count == 1)]

    def step(self):
        """The step that follows is, from the next cycle on."""
        return [self.left.eq(self.left - 1), self.last.eq(self.before_last)]

    @property
    def before_last(self):
        """The step that follows is the last."""
        return self.left == 2
