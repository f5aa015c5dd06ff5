"""Registered products, each made of the technology's multiplier block."""

from dataclasses import dataclass

from amaranth.hdl import Module, Shape, Signal, Value

from .ecp5 import mult18x18d
from .ice40 import mac16
from .technology import Technology, technology_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Operand:
    """A factor that is registered before it is multiplied.

    ``value`` is what the register takes up; ``register`` what it holds, for any other use. A block takes up ``value``
    in a register of its own, beside the one in the fabric, which synthesis leaves out where nothing reads it.
    """

    value: Value
    register: Signal


class Multipliers:
    """The products of one component, added to its module in the domain ``sync``.

    Latency: a product is registered, one cycle behind its factors and so two behind the ``value`` of an
    :class:`Operand`. Throughput: one a cycle. Nothing here is reset, as the blocks' registers are not.

    Parameters
    ----------
    m, platform:
        Of the component's ``elaborate``. The platform's technology decides on the blocks. ECP5: a ``MULT18X18D`` for
        each product. iCE40 UltraPlus: an ``SB_MAC16`` for each, or for two whose factors have at most 8 bits and are
        alike in signs and registers. Otherwise none: each product is the operator's.
    blocks:
        Blocks to use at most, None for no limit; the products beyond are the operator's.
    """

    FACTOR_BITS = 16
    DIGIT_BITS = 4

    def __init__(self, m: Module, platform, *, blocks: int | None = None):
        self._m, self._technology = m, technology_of(platform)
        self._left = blocks
        self._half_full = {}

    def operand(self, value: Value, *, name: str) -> Operand:
        """The value as a factor of one product or several, in a register of this name."""
        register = Signal(value.shape(), name=name, reset_less=True)
        self._m.d.sync += register.eq(value)
        return Operand(value=value, register=register)

    def product(self, a: Operand | Value, b: Operand | Value, *, name: str, enable: Value | None = None) -> Signal:
        """The product of two factors of at most :attr:`FACTOR_BITS` bits: as wide as both, signed if one of them is.

        ``enable``: the product is held while it is low; only of factors that are no :class:`Operand`, whose registers
        a block would hold with it. Raises ``ValueError`` for such a one, and for a wider factor.
        """
        factors = [factor.register if isinstance(factor, Operand) else factor for factor in (a, b)]
        widest = max(len(factor) for factor in factors)
        if widest > self.FACTOR_BITS:
            raise ValueError(f"{name}: expected factors of at most {self.FACTOR_BITS} bits, got {widest}")
        registers = tuple(isinstance(factor, Operand) for factor in (a, b))
        if enable is not None and any(registers):
            raise ValueError(f"{name}: expected factors that are not registered, with enable")
        product = Signal((factors[0] * factors[1]).shape(), name=name, reset_less=True)
        ports = self._ports(
            pair=enable is None and widest <= self.FACTOR_BITS // 2, registers=registers, enable=enable,
            shapes=tuple(factor.shape() for factor in factors), name=f"{name}_block")
        if ports is None:
            with self._m.If(1 if enable is None else enable):
                self._m.d.sync += product.eq(factors[0] * factors[1])
        else:
            for port, factor in zip(ports[:2], (a, b), strict=True):
                self._m.d.comb += port.eq(factor.value if isinstance(factor, Operand) else factor)
            self._m.d.comb += product.eq(ports[2])
        return product

    def summands(self, a: Value, b: Value, *, name: str) -> list[Value]:
        """The product as values to be added, for whom adds anyway: one of a block, several where it is the operator's.

        What is made of logic is then lower: ``a`` times :attr:`DIGIT_BITS` bits of ``b`` each.
        """
        if self._technology is not Technology.GENERIC and self._left != 0:
            return [self.product(a, b, name=name)]
        summands = []
        for start in range(0, len(b), self.DIGIT_BITS):
            digit = b[start:start + self.DIGIT_BITS]
            if b.shape().signed and start + self.DIGIT_BITS >= len(b):
                digit = digit.as_signed()
            summands.append(self.product(a, digit, name=f"{name}_digit{start // self.DIGIT_BITS}") << start)
        return summands

    def _ports(self, *, pair: bool, shapes: tuple[Shape, Shape], registers: tuple[bool, bool], enable: Value | None,
               name: str):
        """Operands and product of a block, or of a free half of one; None where there is none."""
        pair = pair and self._technology is Technology.ICE40UP
        signs = tuple(shape.signed for shape in shapes)
        if pair and (signs, registers) in self._half_full:
            return [port[len(port) // 2:] for port in self._half_full.pop((signs, registers))]
        if self._technology is Technology.GENERIC or self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        (a_register, b_register), enable = registers, 1 if enable is None else enable
        if self._technology is Technology.ECP5:
            return mult18x18d(self._m, shapes=shapes, registers=registers, enable=enable, name=name)
        ports = mac16(self._m, pair=pair, a_signed=signs[0], b_signed=signs[1], a_register=a_register,
                      b_register=b_register, enable=enable, name=name)
        if pair:
            self._half_full[signs, registers] = ports
            return [port[:len(port) // 2] for port in ports]
        return ports
