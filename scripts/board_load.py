"""Networks into a board's memory, and which of them it holds."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.board import Board
from scripts.board_program import NetworkProgram, network_program
from scripts.models import read_network
from scripts.options import Refusal, progress_bar
from scripts.wta import with_wta

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork


def load_network(board: Board, name: str, *, wta: str | None, dense: bool, verify: bool) -> str:
    """Load a network, and remember on this computer which one it is; a line that says so.

    Raises Refusal for a network that does not fit, before anything is written.
    """
    one = fitting_program(board, _network(name, wta), name, dense=dense)
    total = sum(end - begin for begin, end in one.loaded)
    started = time.monotonic()
    with progress_bar(f"loading {one.network.name}", (1 + verify) * total, "bytes") as move:
        board.load(one.program.image, one.loaded, one.tag, verify=verify, progress=move)
    stated = str(Path(name).absolute()) if Path(name).is_file() else name
    state_file(board, one.tag).write_text(json.dumps({"network": stated, "wta": wta, "dense": dense}))
    seconds = time.monotonic() - started
    return (f"{one.network.name} is loaded into {board.identity.board}: {total:,} bytes in {seconds:.1f} s"
            + (", read back and equal" if verify else ""))


def loaded_network(board: Board) -> tuple[NetworkProgram, bool]:
    """The network that the board holds, and whether it was loaded dense. Raises Refusal where it holds none."""
    tag = board.persist(board.read_tag)
    path, again = state_file(board, tag), "load it first: winnow host load NET"
    if not path.exists():
        raise Refusal(f"{board.link.name}: the board holds no network that this computer has loaded; {again}")
    state = json.loads(path.read_text())
    one = fitting_program(board, _network(state["network"], state["wta"]), state["network"], dense=state["dense"])
    if one.tag != tag:
        raise Refusal(f"{state['network']}: the network, or Winnow, has changed since it was loaded; {again}")
    return one, state["dense"]


def fitting_program(board: Board, network: "QuantizedNetwork", name: str, *, dense: bool) -> NetworkProgram:
    """The network's program for the board's engine. Raises Refusal, naming the network, where it does not fit."""
    from hw.plan import PlanError

    identity = board.identity
    try:
        one = network_program(network, identity.engine, dense=dense)
    except PlanError as error:
        raise Refusal(f"{name} does not fit the engine of {identity.board}: {error}") from None
    if one.program.image.size > identity.memory_bytes:
        raise Refusal(f"{name} does not fit the memory of {identity.board}: it needs {one.program.image.size:,} bytes "
                      f"of {identity.memory_bytes:,}")
    return one


def state_file(board: Board, tag: bytes) -> Path:
    """Where this computer remembers what a program is that a board holds."""
    from sim.verilator import cache_folder, digest

    return cache_folder() / f"loaded-{digest(board.link.identity, tag)}.json"


def _network(name: str, wta: str | None) -> "QuantizedNetwork":
    return with_wta(read_network(name), wta)


