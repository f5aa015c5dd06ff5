"""Plots: what is drawn is what was given."""

import pytest

from golden.checks import JobError
from golden.dasnet.plots import MOST_BARS, plot_layer_rates, plot_pruned_maps, plot_pruned_neurons, plot_scores


def lines(axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line with a name."""
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def level(axes, name: str) -> set[float]:
    """The height of a horizontal line."""
    return {y for _, y in lines(axes)[name]}


def test_accuracy_against_the_winner_rate_of_neurons(tmp_path):
    points = [(0.5, 0.984), (0.064, 0.98)]
    figure = plot_pruned_neurons({"MLP-3": points, "ConvNet-5": [(0.2, 0.85)]}, {"MLP-3": 0.985}, title="Fig. 3")
    axes, = figure.axes
    assert lines(axes)["MLP-3"] == sorted(points) and lines(axes)["ConvNet-5"] == [(0.2, 0.85)]
    assert level(axes, "MLP-3, all neurons") == {0.985} and len(axes.get_lines()) == 3
    assert axes.get_xlabel() == "winner rate of the fully connected layers" and axes.get_ylabel() == "accuracy"
    assert axes.yaxis.get_major_formatter()(0.9845, None) == "98.45 %"
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_scores_of_each_network_side_by_side():
    curves = {"LeNet-4": {"max": [(0.5, 0.99), (0.9, 0.994)], "mean": [(0.5, 0.98)]},
              "ConvNet-5": {"max": [(0.5, 0.8)]}}
    left, right = plot_scores(curves, {"LeNet-4": 0.995}, title="Fig. 5").axes
    assert lines(left)["max score"] == [(0.5, 0.99), (0.9, 0.994)] and lines(left)["mean score"] == [(0.5, 0.98)]
    assert level(left, "all channels") == {0.995} and list(lines(right)) == ["max score"]
    assert [axes.get_title(loc="left") for axes in (left, right)] == list(curves)


def test_rates_and_accuracy_against_the_threshold():
    rates = {"conv1": [(0.9, 0.8), (0.5, 0.3)], "conv2": [(0.5, 0.2), (0.9, 0.6)]}
    left, right = plot_pruned_maps(rates, [(0.5, 0.97), (0.9, 0.99)], 0.994, title="Fig. 6").axes
    assert lines(left) == {name: sorted(points) for name, points in rates.items()}
    assert lines(right)["winners only"] == [(0.5, 0.97), (0.9, 0.99)] and level(right, "all channels") == {0.994}
    assert list(lines(plot_pruned_maps(rates, [(0.5, 0.9)], title="").axes[1])) == ["winners only"]


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


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(JobError, match=r"^curves: expected at least one, got none$"):
        plot_pruned_neurons({}, {}, title="")
    with pytest.raises(JobError, match=r"^curve max: expected at least one point, got none$"):
        plot_scores({"LeNet-4": {"max": []}}, {}, title="")
    with pytest.raises(JobError, match=r"^rates: expected at least one layer, got none$"):
        plot_layer_rates({}, title="")
    with pytest.raises(JobError, match=r"^layer fc1: expected rates at \[0\.5, 0\.9\], got \[0\.5\]$"):
        plot_layer_rates({"conv1": {0.5: 0.1, 0.9: 0.2}, "fc1": {0.5: 0.1}}, title="")
