"""``winnow run-layer``: one layer of any operation in RTL, bit for bit against the golden model."""

from pathlib import Path

import click

from scripts.options import (
    INPUT_FILE,
    Failure,
    OutputPath,
    command_line,
    engine_config,
    engine_options,
    json_option,
    memory_option,
    open_simulator,
    progress_bar,
    seed_option,
)


@click.command("run-layer")
@click.argument("job", type=INPUT_FILE, metavar="JOB.npz")
@engine_options
@memory_option("fast")
@seed_option
@click.option("--out", type=OutputPath(), help="Write output, scores and winners, an npz file.")
@json_option
def run_layer(job: Path, memory: str, seed: int, out: Path | None, json_path: Path | None, **sizes) -> None:
    """Run the layer job JOB.npz in RTL and compare every byte of the result with the golden model.

    A job is a convolution (grouped and depthwise too), a pooling (max, average, mean) or an addition. Without --json
    the report is printed as a table. Exit code 1 when anything differs. The engine is compiled at the first use of its
    sizes, which takes some 25 seconds or more, and then kept.

    \b
    Examples:
      winnow run-layer conv.npz
      winnow run-layer conv.npz --rows 8 --cols 16 --axi-width 64 --out result.npz --json report.json
      winnow run-layer conv.npz --memory stall --seed 7
    """
    config = engine_config(**sizes)

    from golden.job import load_job
    from golden.reference import run as reference
    from sim.execute import Chain, execute
    from sim.report import bytes_table, cycles_table, stall_table, write_json

    layer = load_job(job)
    chain = Chain(names=[job.stem], jobs=[layer], expected=[reference(layer)], config=config)
    simulator = open_simulator(config, memory)
    with progress_bar(job.stem, chain.predicted_cycles, "cycles") as move:
        outcome, = execute(simulator, [chain], seed=seed, progress=lambda _, cycles: move(cycles))
    measured, = outcome.measures
    if out:
        outcome.results[0].save(out)
    if json_path:
        write_json(json_path, measured.fields() | {
            "seed": seed, "memory": memory, "command": command_line(), "differences": outcome.differences,
            "cycles_simulated": outcome.cycles_simulated, "seconds": outcome.seconds})
    else:
        runs = {"layer": outcome.measures}
        click.echo(f"{config.rows}x{config.columns} array, {memory} memory, seed {seed}\n")
        click.echo("\n\n".join([cycles_table(outcome.measures), bytes_table(runs), stall_table(runs)]) + "\n")
        click.echo("bit-exact: yes" if measured.bit_exact else "bit-exact: NO")
    if outcome.differences:
        raise Failure(f"not bit-exact: {outcome.differences[0]}")
