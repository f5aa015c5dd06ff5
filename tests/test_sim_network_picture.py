"""The picture of a network: well-formed, a box for each layer, edges that do not share a lane while they run beside."""

from pathlib import Path
from xml.etree import ElementTree

from golden.network import QuantizedNetwork
from sim.network_picture import _lanes, network_svg

EVERY_OPERATION = Path(__file__).parent / "every_operation.json"
SVG = "{http://www.w3.org/2000/svg}"


def test_boxes_edges_and_notes():
    network = QuantizedNetwork.load(EVERY_OPERATION)
    notes = {network.layers[0].name: ["<costs> & more"]}
    root = ElementTree.fromstring(network_svg(network, notes))
    boxes = root.findall(f"{SVG}rect")
    assert len(boxes) == 1 + len(network.layers)
    edges = [path for path in root.findall(f"{SVG}path") if path.get("marker-end")]
    assert len(edges) == sum(len(node.inputs) for node in network.layers)
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"input", "<costs> & more", *(node.name for node in network.layers)} <= set(texts)
    red = [box for box in boxes if box.get("stroke") == "#cc0000"]
    assert len(red) == sum(node.ranking is not None for node in network.layers)
    tops = [float(box.get("y")) for box in boxes]
    ends = [top + float(box.get("height")) for top, box in zip(tops, boxes, strict=True)]
    assert all(end < top for end, top in zip(ends, tops[1:], strict=False))
    width = float(root.get("width"))
    assert all(float(box.get("x")) + float(box.get("width")) < width for box in boxes)


def test_lanes():
    assert _lanes([(0, 1), (1, 2), (2, 3)]) == [-1, -1, -1]
    assert _lanes([(0, 2), (2, 4), (1, 3), (3, 5)]) == [0, 0, 1, 1]
    assert _lanes([(0, 9), (1, 3), (3, 5), (2, 8)]) == [0, 1, 1, 2]
