"""How fast the analytical model is: layers a second over the layers of well-known networks.

    python -m scripts.benchmark_model [--json FILE]

CPU time of one core, the median of several rounds; cutting a layer for the engine (the plan) is timed apart, because
one plan serves every winner count and every image.
"""

import json
import statistics
import time
from pathlib import Path

import click

from hw.config import EngineConfig
from hw.lowering import Ranking, Select
from hw.plan import LayerShape, make_plan
from sim.analytical import predict
from sim.workload import Workload


def convolutions(*sizes: tuple[int, int, int, int, int]) -> list[LayerShape]:
    """Layers from (input channels, output channels, input side, kernel, stride), padded by half the kernel."""
    return [LayerShape(channels=c, height=side, width=side, out_channels=o, kernel=(k, k), stride=(s, s),
                       padding=(k // 2,) * 4) for c, o, side, k, s in sizes]


def fully_connected(*sizes: tuple[int, int]) -> list[LayerShape]:
    """Layers from (inputs, outputs)."""
    return [LayerShape(channels=c, height=1, width=1, out_channels=o, kernel=(1, 1)) for c, o in sizes]


RESNET18 = convolutions(
    (3, 64, 224, 7, 2), *[(64, 64, 56, 3, 1)] * 4, (64, 128, 56, 3, 2), *[(128, 128, 28, 3, 1)] * 3,
    (64, 128, 56, 1, 2), (128, 256, 28, 3, 2), *[(256, 256, 14, 3, 1)] * 3, (128, 256, 28, 1, 2), (256, 512, 14, 3, 2),
    *[(512, 512, 7, 3, 1)] * 3, (256, 512, 14, 1, 2)) + fully_connected((512, 1000))
RESNET20 = convolutions((3, 16, 32, 3, 1), *[(16, 16, 32, 3, 1)] * 6, (16, 32, 32, 3, 2), *[(32, 32, 16, 3, 1)] * 5,
                        (32, 64, 16, 3, 2), *[(64, 64, 8, 3, 1)] * 5) + fully_connected((64, 10))
LENET4 = convolutions((1, 32, 28, 5, 1), (32, 64, 14, 5, 1)) + fully_connected((3136, 1024), (1024, 10))


def layers_per_second(shapes: list[LayerShape], config: EngineConfig, rounds: int) -> tuple[float, float]:
    """Median layers a second of planning and of predicting, by CPU time."""
    ranking = Ranking(select=Select.TOPK, value=1)
    planning, predicting = [], []
    for _ in range(rounds):
        start = time.process_time()
        plans = [make_plan(shape, config) for shape in shapes]
        middle = time.process_time()
        for plan in plans:
            predict(Workload(plan=plan, ranking=ranking, winners=[max(1, plan.layer.channels // 2)], masked=[True]))
        end = time.process_time()
        planning.append(len(shapes) / (middle - start))
        predicting.append(len(shapes) / (end - middle))
    return statistics.median(planning), statistics.median(predicting)


@click.command(help=__doc__)
@click.option("--rounds", default=20, show_default=True, help="Rounds of which the median is taken.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(rounds: int, json_file: Path | None):
    figures = {}
    networks = {"ResNet-18, 224x224": RESNET18, "ResNet-20, 32x32": RESNET20, "LeNet-4, 28x28": LENET4,
                "all of them": RESNET18 + RESNET20 + LENET4}
    for name, shapes in networks.items():
        planned, predicted = layers_per_second(shapes, EngineConfig(), rounds)
        figures[name] = {"layers": len(shapes), "plans_per_second": round(planned),
                         "predictions_per_second": round(predicted)}
        click.echo(f"{name:20} {len(shapes):3} layers: {predicted:8,.0f} predictions/s, {planned:8,.0f} plans/s")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
