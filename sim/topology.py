"""SCALE-Sim's topology files: a header line, then one convolution a line, its map already padded.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,

As in SCALE-Sim, the first line is a header whatever it says, a second stride may follow (height, then width), and blank
lines are skipped. The comma at the end may be left out.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from hw.config import ceil_div
from hw.plan import MAX_EXTENT, LayerShape

_LIMITS = {"IFMAP Height": MAX_EXTENT, "IFMAP Width": MAX_EXTENT, "Filter Height": 11, "Filter Width": 11,
           "Channels": 4096, "Num Filter": 4096, "Strides": 4, "Stride Width": 4}
_COLUMNS = ("Layer name", *_LIMITS)


class TopologyError(ValueError):
    """A topology file that cannot be used; the message is one line naming the line and the column."""


@dataclass(frozen=True, kw_only=True)
class TopologyLayer:
    """One line of the file."""

    name: str
    shape: LayerShape

    @property
    def scale_sim_shape(self) -> LayerShape:
        """The shape whose cycles SCALE-Sim counts. Where strides leave a rest at the border, it adds a row or column of
        results that hang over the map; the engine, like every framework, does not compute them."""
        def covered(size: int, kernel: int, stride: int) -> int:
            return kernel + ceil_div(size - kernel, stride) * stride

        shape = self.shape
        return replace(shape, height=covered(shape.height, shape.kernel[0], shape.stride[0]),
                       width=covered(shape.width, shape.kernel[1], shape.stride[1]))


def read_topology(path: Path) -> list[TopologyLayer]:
    """Read all layers. Raises :class:`TopologyError`, and OSError where the file cannot be read."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    _require(bool(lines), f"{path.name}: expected a header line, got an empty file")
    first = [cell.strip() for cell in lines[0].split(",")]
    _require(not any(cell.isdecimal() for cell in first[1:]),
             f"{path.name}: line 1: expected the header {', '.join(_COLUMNS[:-1])}")
    layers = [_layer(f"{path.name}: line {number}", line)
              for number, line in enumerate(lines[1:], 2) if line.strip()]
    _require(bool(layers), f"{path.name}: expected at least one layer below the header")
    return layers


def _layer(where: str, line: str) -> TopologyLayer:
    cells = [cell.strip() for cell in line.split(",")]
    if cells[-1] == "":
        cells.pop()
    _require(len(cells) in (8, 9), f"{where}: expected 8 columns ({', '.join(_COLUMNS[:-1])}), got {len(cells)}")
    name = cells[0]
    _require(bool(name), f"{where}, Layer name: expected a name, got nothing")
    # SCALE-Sim takes such a layer channel by channel.
    _require("DP" not in name, f"{where}, Layer name: expected no depthwise layer (DP in its name), got {name}")
    values = []
    for column, cell in zip(_COLUMNS[1:], cells[1:], strict=False):
        _require(cell.isascii() and cell.isdecimal(), f"{where}, {column}: expected a positive integer, got {cell!r}")
        limit = _LIMITS[column]
        _require(1 <= int(cell) <= limit, f"{where}, layer {name}, {column}: expected 1..{limit}, got {cell}")
        values.append(int(cell))
    height, width, kernel_h, kernel_w, channels, out_channels, *strides = values
    for column, kernel, size in (("Filter Height", kernel_h, height), ("Filter Width", kernel_w, width)):
        _require(kernel <= size, f"{where}, layer {name}, {column}: expected at most the IFMAP's {size}, got {kernel}")
    return TopologyLayer(name=name, shape=LayerShape(
        channels=channels, height=height, width=width, out_channels=out_channels, kernel=(kernel_h, kernel_w),
        stride=(strides[0], strides[-1])))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise TopologyError(message)
