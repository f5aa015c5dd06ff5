"""A network's graph as a picture, SVG: a box for each layer, an edge for each tensor between them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork
    from golden.node import Node

_WIDTH, _LINE, _GAP, _LANE, _MARGIN = 320, 15, 26, 40, 24
_COLORS = {"input": "#f2f2f2", "conv": "#cfe2f3", "depthwise": "#d9ead3", "add": "#fce5cd", "concat": "#ead1dc",
           "max_pool": "#fff2cc", "average_pool": "#fff2cc", "mean": "#fff2cc"}
_RANKED = "#cc0000"


def network_svg(network: "QuantizedNetwork", notes: Mapping[str, Sequence[str]]) -> str:
    """The picture as text; ``notes`` are lines for the boxes of layers, by name.

    Layers stand one below the other in their order. An edge to the next layer is straight, any other has a lane of its
    own beside the boxes, which it shares with edges that end above it. Layers with winners have a red frame.
    """
    boxes = {"input": ["input", _sizes(network.input.shape)]}
    boxes |= {node.name: [node.name, _what(node), *notes.get(node.name, ())] for node in network.layers}
    tops, y = {}, _MARGIN
    for name, lines in boxes.items():
        tops[name] = y
        y += _height(lines) + _GAP
    order = {name: place for place, name in enumerate(boxes)}
    edges = [(source, node.name) for node in network.layers for source in node.inputs]
    lanes = _lanes([(order[source], order[target]) for source, target in edges])
    width = _MARGIN * 2 + _WIDTH + _LANE * (1 + max(lanes, default=-1))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" '
             'font-family="sans-serif" font-size="12">',
             '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
             'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
             f"<title>{escape(network.name)}</title>"]
    for (source, target), lane in zip(edges, lanes, strict=True):
        parts.append(_edge(tops[source] + _height(boxes[source]), tops[target], lane))
    ranked = {node.name for node in network.layers if node.ranking is not None}
    kinds = {node.name: "depthwise" if _is_depthwise(node) else node.op for node in network.layers}
    for name, lines in boxes.items():
        parts += _box(tops[name], lines, _COLORS[kinds.get(name, "input")], name in ranked)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _is_depthwise(node: "Node") -> bool:
    return node.op == "conv" and node.groups == node.input_shapes[0][0] > 1


def _what(node: "Node") -> str:
    """An operation with its window and what comes out."""
    words = ["depthwise" if _is_depthwise(node) else node.op]
    if node.sizes is not None:
        words.append("x".join(map(str, node.kernel)) + (f" / {node.stride[0]}" if max(node.stride) > 1 else ""))
    if node.pool is not None:
        words.append(f"+ max_pool {node.pool[0]}x{node.pool[1]} / {node.pool[2]}")
    return f"{' '.join(words)}: {_sizes(node.output_shape)}"


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _height(lines: Sequence[str]) -> int:
    return _LINE * len(lines) + 10


def _lanes(edges: Sequence[tuple[int, int]]) -> list[int]:
    """For each edge -1 if it leads to the next box, else the first lane that is free all along it."""
    ends: list[int] = []
    found = [-1] * len(edges)
    for number in sorted(range(len(edges)), key=lambda number: edges[number]):
        source, target = edges[number]
        if target == source + 1:
            continue
        lane = next((lane for lane, end in enumerate(ends) if end <= source), len(ends))
        ends[lane:lane + 1] = [target]
        found[number] = lane
    return found


def _edge(start: int, end: int, lane: int) -> str:
    middle = _MARGIN + _WIDTH // 2
    if lane < 0:
        path = f"M{middle} {start}L{middle} {end}"
    else:
        x, side = _MARGIN + _WIDTH + _LANE * (lane + 1) - _LANE // 2, _MARGIN + _WIDTH - 20
        path = f"M{side} {start}C{side} {start + 14} {x} {start} {x} {start + _GAP}L{x} {end - _GAP}"
        path += f"C{x} {end} {side} {end - 14} {side} {end}"
    return f'<path d="{path}" fill="none" stroke="#444444" marker-end="url(#end)"/>'


def _box(top: int, lines: Sequence[str], color: str, ranked: bool) -> list[str]:
    frame = f'stroke="{_RANKED}" stroke-width="2"' if ranked else 'stroke="#444444"'
    size = f'width="{_WIDTH}" height="{_height(lines)}"'
    parts = [f'<rect x="{_MARGIN}" y="{top}" {size} rx="5" fill="{color}" {frame}/>']
    for number, line in enumerate(lines):
        weight = ' font-weight="bold"' if number == 0 else ""
        parts.append(f'<text x="{_MARGIN + 10}" y="{top + _LINE * (number + 1) + 1}"{weight}>{escape(line)}</text>')
    return parts
