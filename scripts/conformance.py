"""``winnow conformance``: random layers in RTL, bit for bit, and their traffic byte for byte."""

import sys
from pathlib import Path

import click

from scripts.options import Failure, command_line, json_option, memory_option, open_simulator, progress_bar, seed_option

ENGINES = {
    "small": {"rows": 4, "columns": 4, "axi_data_bits": 64, "act_buffer_bytes": 4096, "weight_buffer_bytes": 4096,
              "max_channels": 2048, "output_ring_bytes": 256, "requantize_lanes": 2, "rank_lanes": 16},
    "odd": {"rows": 7, "columns": 5, "axi_data_bits": 128, "act_buffer_bytes": 9216, "weight_buffer_bytes": 5120,
            "output_ring_bytes": 512, "requantize_lanes": 3, "rank_lanes": 8, "vector_lanes": 3, "psum_tiles": 4},
    "narrow": {"rows": 2, "columns": 4, "axi_data_bits": 32, "act_buffer_bytes": 16384, "weight_buffer_bytes": 8192,
               "output_ring_bytes": 512, "requantize_lanes": 1, "rank_lanes": 8, "max_channels": 1024},
    "imagenet": {"rows": 7, "columns": 32},
    "wide": {"rows": 8, "columns": 16, "axi_data_bits": 64, "act_buffer_bytes": 16384, "weight_buffer_bytes": 16384},
    "default": {},
}
JOBS_AT_ONCE = 25


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=300, show_default=True, help="How many layers.")
@seed_option
@memory_option("stall")
@click.option("--config", "names", type=click.Choice(list(ENGINES)), multiple=True,
              help="An engine to run on; may be given several times.  [default: all]")
@click.option("--max-macs", type=click.IntRange(min=1), default=1_000_000, show_default=True,
              help="Multiplications of a layer at most.")
@json_option
def conformance(jobs: int, seed: int, memory: str, names: tuple[str, ...], max_macs: int,
                json_path: Path | None) -> None:
    """Run random layers in RTL on several engines and compare with the golden model and the analytical model.

    Every layer must be bit-exact and move exactly the predicted bytes; with the fast memory its cycles must be within
    1 % (or 50 cycles) of the prediction as well. Layers that an engine cannot run are counted. Ctrl-C ends the run and
    keeps what was found. A failure is a line with the command that repeats it. Exit code 1 when there is any.

    \b
    Engines (rows x columns, AXI bits, activation and weight buffer):
      small    4x4    64  4 and 4 KiB
      odd      7x5   128  9 and 5 KiB
      narrow   2x4    32  16 and 8 KiB
      imagenet 7x32  128  128 and 128 KiB
      wide     8x16   64  16 and 16 KiB
      default  16x16 128  128 and 128 KiB

    \b
    Examples:
      winnow conformance
      winnow conformance --jobs 100 --seed 1000 --config small --memory fast --json report.json
    """
    from tqdm import tqdm

    from hw.config import EngineConfig
    from sim.conformance import Tally, batches, run_batch
    from sim.report import write_json

    configs = {name: EngineConfig(**ENGINES[name]) for name in dict.fromkeys(names) or ENGINES}
    simulators = {name: open_simulator(config, memory) for name, config in configs.items()}
    tally = Tally()
    interrupted = False
    with progress_bar("conformance", jobs, "jobs") as move:
        try:
            for name, seeds in batches(jobs, seed, list(configs), JOBS_AT_ONCE):
                done = tally.jobs
                found = run_batch(simulators[name], name, seeds, max_macs=max_macs,
                                  progress=lambda finished, done=done: move(done + finished))
                for line in found.failures:
                    tqdm.write(f"FAILED {line}", file=sys.stderr)
                tally.add(found)
                move(tally.jobs)
        except KeyboardInterrupt:
            interrupted = True
    click.echo(tally.text())
    if json_path:
        write_json(json_path, tally.fields() | {"seed": seed, "memory": memory, "engines": list(configs),
                                                "interrupted": interrupted, "command": command_line()})
    if interrupted:
        raise click.Abort
    if tally.failures:
        raise Failure(f"{len(tally.failures)} of {tally.jobs} jobs failed")
