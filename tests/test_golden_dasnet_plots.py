"""Plots: what is drawn is what was given."""

import numpy as np
import pytest

from golden.checks import JobError
from golden.dasnet.finetune import Step
from golden.dasnet.plots import (
    COLORS,
    MOST_BARS,
    Curves,
    plot_layer_rates,
    plot_rounds,
    plot_scores,
    plot_thresholds,
)


def lines(axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line with a name."""
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def level(axes, name: str) -> set[float]:
    """The height of a horizontal line."""
    return {y for _, y in lines(axes)[name]}


def test_rates_and_accuracy_against_the_threshold(tmp_path):
    rates = {"conv1": [(0.9, 0.8), (0.5, 0.3)], "conv2": [(0.5, 0.2), (0.9, 0.6)]}
    kinds = {"neurons": Curves(rates={"fc1": [(0.5, 0.1), (0.9, 0.2)]}, accuracies=[(0.9, 0.99), (0.5, 0.97)]),
             "feature maps": Curves(rates=rates, accuracies=[(0.5, 0.9), (0.9, 0.98)])}
    figure = plot_thresholds(kinds, 0.994, title="LeNet-4")
    first, second, third, fourth = figure.axes
    assert lines(first) == {"fc1": [(0.5, 0.1), (0.9, 0.2)]}
    assert lines(third) == {name: sorted(points) for name, points in rates.items()}
    assert lines(second)["winners among neurons"] == [(0.5, 0.97), (0.9, 0.99)]
    assert lines(fourth)["winners among feature maps"] == [(0.5, 0.9), (0.9, 0.98)]
    assert level(second, "all take part") == level(fourth, "all take part") == {0.994}
    assert [axes.get_ylabel() for axes in figure.axes] == ["winner rate of neurons", "accuracy",
                                                           "winner rate of feature maps", "accuracy"]
    assert first.yaxis.get_major_formatter()(0.9845, None) == "98.45 %"
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    # Where accuracies have not been measured there is no place for them.
    alone, = plot_thresholds({"feature maps": Curves(rates=rates)}, 0.0, title="").axes
    assert list(lines(alone)) == list(rates)


def test_many_layers_have_colors_of_their_own():
    rates = {f"layer{number}": [(0.5, number / 30), (0.9, number / 20)] for number in range(18)}
    axes, = plot_thresholds({"feature maps": Curves(rates=rates)}, 0.0, title="").axes
    assert len({line.get_color() for line in axes.get_lines()}) == 18 > len(COLORS)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(rates)


def test_scores_side_by_side():
    curves = {"max score": [(0.9, 0.994), (0.5, 0.99)], "mean score": [(0.5, 0.98)]}
    axes, = plot_scores(curves, 0.995, across="winner rate", title="Fig. 5").axes
    assert lines(axes)["max score"] == [(0.5, 0.99), (0.9, 0.994)] and lines(axes)["mean score"] == [(0.5, 0.98)]
    assert level(axes, "all channels") == {0.995} and axes.get_xlabel() == "winner rate"


def test_rates_of_few_layers_are_bars():
    rates = {"conv1": {0.9: 0.7, 0.5: 0.2}, "conv2": {0.5: 0.1, 0.9: 0.6}, "fc1": {0.5: 0.05, 0.9: 0.3}}
    axes, = plot_layer_rates(rates, title="Fig. 9").axes
    assert [container.get_label() for container in axes.containers] == ["50 %", "90 %"]
    heights = [[bar.get_height() for bar in container] for container in axes.containers]
    assert heights == [[0.2, 0.1, 0.05], [0.7, 0.6, 0.3]]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(rates)
    # The bars of a layer stand side by side, around its name.
    for place in range(3):
        first, second = (container[place] for container in axes.containers)
        assert first.get_x() + first.get_width() <= second.get_x()
        assert first.get_x() + second.get_x() + second.get_width() == pytest.approx(2 * place)


def test_rates_of_many_layers_are_lines():
    rates = {f"layer{number}": {0.5: number / 100, 0.9: 0.9} for number in range(MOST_BARS // 2 + 1)}
    axes, = plot_layer_rates(rates, title="ResNet").axes
    assert not axes.containers and list(lines(axes)) == ["50 %", "90 %"]
    assert [y for _, y in lines(axes)["50 %"]] == [found[0.5] for found in rates.values()]
    assert axes.get_xticklabels()[0].get_rotation() == 90


def close(found, expected) -> bool:
    return np.asarray(found) == pytest.approx(np.asarray(expected))


def step(energy: float, accuracy: float, reduction: float) -> Step:
    return Step(energies={"pool1": energy, "relu3": energy}, rates={}, accuracy=accuracy, drop=0.99 - accuracy,
                macs=1000 * (1 - reduction), reduction=reduction, checkpoint="")


def test_rounds():
    steps = [step(0.9, 0.989, 0.2), step(0.8, 0.986, 0.4), step(0.7, 0.97, 0.6)]
    axes, = plot_rounds(steps, max_drop=0.005, title="rounds").axes
    points = [(1.0, 0.99), (0.8, 0.989), (0.6, 0.986), (0.4, 0.97)]
    assert close(lines(axes)["_line"], points) and level(axes, "all channels") == {0.99}
    assert list(level(axes, "-0.5 %")) == pytest.approx([0.985])
    drawn = {one.get_label(): one.get_offsets() for one in axes.collections}
    for name, expected in (("within the bound", points[1:3]), ("beyond it", points[3:]), ("kept", points[2:3])):
        assert close(drawn.pop(name), expected)
    assert not drawn
    assert [text.get_text() for text in axes.texts] == ["90 %", "80 %", "70 %"]
    # Nothing is kept where the first round is beyond the bound.
    axes, = plot_rounds(steps[2:], max_drop=0.005, title="").axes
    assert [one.get_label() for one in axes.collections] == ["beyond it"]


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(JobError, match=r"^kinds: expected at least one, got none$"):
        plot_thresholds({}, 0.0, title="")
    with pytest.raises(JobError, match=r"^curves: expected at least one, got none$"):
        plot_thresholds({"neurons": Curves(rates={})}, 0.0, title="")
    with pytest.raises(JobError, match=r"^curve max: expected at least one point, got none$"):
        plot_scores({"max": []}, 0.0, across="", title="")
    with pytest.raises(JobError, match=r"^rates: expected at least one layer, got none$"):
        plot_layer_rates({}, title="")
    with pytest.raises(JobError, match=r"^layer fc1: expected rates at \[0\.5, 0\.9\], got \[0\.5\]$"):
        plot_layer_rates({"conv1": {0.5: 0.1, 0.9: 0.2}, "fc1": {0.5: 0.1}}, title="")
    with pytest.raises(JobError, match=r"^steps: expected at least one round, got none$"):
        plot_rounds([], max_drop=0.1, title="")
