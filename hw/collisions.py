"""Memories that are read and written at the same place in the same cycle: what is read then is nobody's business."""

import re

_READ_PORT = re.compile(r"^ *cell \$memrd_v2 .*?^ *end$", re.DOTALL | re.MULTILINE)
_MASK = re.compile(r"(\\TRANSPARENCY_MASK (\d+)'([01]+)\n *parameter \\COLLISION_X_MASK) \2'[01]+")


def undefine_collisions(rtlil: str) -> str:
    """RTLIL in which a clocked read of the word that is written in this cycle is undefined, unless it sees the new one.

    Amaranth's ports that are not transparent read the old word, which block RAM does not do for every pair of ports:
    synthesis then adds comparators, registers and multiplexers to each memory. Nothing here relies on the old word. In
    the Verilog that is simulated such a read gives x; a simulator makes of it what it likes.
    """
    def undefine(port: re.Match) -> str:
        if not re.search(r"\\CLK_ENABLE 1$", port[0], re.MULTILINE):
            return port[0]
        return _MASK.sub(lambda mask: f"{mask[1]} {mask[2]}'{mask[3].translate(str.maketrans('01', '10'))}", port[0])

    return _READ_PORT.sub(undefine, rtlil)
