"""Compile the kernels for the core, with the C compiler of ``ziglang`` from PyPI; once per source (a cache)."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sim.verilator import SimulationError, cache_folder, digest, locked

KERNELS = Path(__file__).parent / "kernels"
LAYER_ADDRESS = 0x20000
"""Where the program finds its layer; code and stack are below."""
TARGET = ("-target", "riscv32-freestanding", "-mcpu=generic_rv32+m")
FLAGS = (*TARGET, "-O3", "-fwrapv", "-ffreestanding", "-fno-sanitize=all", "-fno-asynchronous-unwind-tables", "-g0",
         "-ffunction-sections", "-Wall", "-Wextra", "-Werror")
LINKER_FLAGS = ("--oformat=binary", "--gc-sections")


def _kernels() -> tuple[str, ...]:
    """The kernels that kernels.h declares."""
    return tuple(re.findall(r"^void (\w+)\(const struct layer \*layer\);", (KERNELS / "kernels.h").read_text(),
                            re.MULTILINE))


KERNEL_NAMES = _kernels()


def version_of(package: str) -> str:
    """The installed version of a package. Raises SimulationError, with the command that installs it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise SimulationError(f"software cycles need the package {package}: pip install {required(package)}") from None


def required(package: str) -> str:
    """The requirement of this project for a package, such as ``ziglang==0.17.1``."""
    try:
        wanted = importlib.metadata.requires("winnow-accelerator") or []
    except importlib.metadata.PackageNotFoundError:  # run from its folder, not installed
        wanted = []
    return next((line.split(";")[0].strip() for line in wanted if line.startswith(package)), package)


def compiler() -> str:
    """What compiles, for reports: ``zig 0.17.1, RV32IM, -O3``. Raises SimulationError."""
    return f"zig {version_of('ziglang')}, RV32IM, -O3"


def compile_kernels() -> dict[str, bytes]:
    """The program of each kernel, from address 0. Raises SimulationError where the compiler is missing, or fails."""
    sources = [path for path in sorted(KERNELS.iterdir()) if path.suffix in (".c", ".S", ".h", ".ld")]
    key = digest("kernels", version_of("ziglang"), str(LAYER_ADDRESS), *FLAGS, *LINKER_FLAGS,
                 *(text for path in sources for text in (path.name, path.read_text())))
    cache = cache_folder()
    with locked(cache / f"{key}.lock"):
        if not (cache / key).exists():
            folder = Path(tempfile.mkdtemp(prefix="kernels-", dir=cache))
            try:
                _compile(folder, [path for path in sources if path.suffix in (".c", ".S")])
                (folder / "programs").rename(cache / key)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return {name: (cache / key / name).read_bytes() for name in KERNEL_NAMES}


def _compile(folder: Path, sources: list[Path]) -> None:
    """Compile and link in ``folder``, leaving each kernel's program in ``folder/programs``."""
    (folder / "programs").mkdir()
    objects = [f"{source.name}.o" for source in sources]
    for source, to in zip(sources, objects, strict=True):
        _call(["cc", *FLAGS, "-c", str(source), "-o", to], folder)
    for name in KERNEL_NAMES:
        _call(["ld.lld", *LINKER_FLAGS, f"--defsym=layer={LAYER_ADDRESS}", f"--defsym=kernel={name}",
               "-T", str(KERNELS / "link.ld"), "-o", f"programs/{name}", *objects], folder)


def _call(arguments: list[str], folder: Path) -> None:
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder / "cache"),
                   "ZIG_LOCAL_CACHE_DIR": str(folder / "cache")}
    result = subprocess.run([sys.executable, "-m", "ziglang", *arguments], cwd=folder, env=environment,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        lines = [line for line in result.stdout.splitlines() if "error" in line] or result.stdout.splitlines()
        raise SimulationError(f"zig {arguments[0]} failed with exit status {result.returncode}: "
                              f"{lines[0] if lines else 'no message'}; a whole compiler: "
                              f"pip install --force-reinstall {required('ziglang')}")
