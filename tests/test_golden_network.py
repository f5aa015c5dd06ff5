"""A network as a graph: masks passed on, dense runs, branches, NETWORK.npz, and what the whole refuses."""

import dataclasses

import numpy as np
import pytest

from golden import network as network_module
from golden.job import AddJob, JobError, LayerJob, PoolJob, Ranking
from golden.layers import AddLayer, AveragePoolLayer, ConcatLayer, ConvLayer, MaxPoolLayer, MeanLayer
from golden.network import Layer, NetworkInput, QuantizedNetwork, WinnerRule, read_rates
from golden.quantization import run_batch
from golden.reference import run
from golden.sparsity import zero_blocks

TOP3 = Ranking(score="max", select="topk", value=3)


def layer(name: str, shape: tuple[int, ...], seed: int, **changes) -> ConvLayer:
    rng = np.random.default_rng(seed)
    outputs = shape[0]
    fields = {
        "name": name, "weight": rng.integers(-127, 128, shape, np.int8),
        "bias": rng.integers(-999, 999, outputs, np.int32), "shift": np.full(outputs, -9, np.int32),
        "multiplier": rng.integers(2**30, 2**31, outputs).astype(np.int32), "input_zero_point": -128,
        "output_zero_point": -128, "activation_min": -128, "activation_max": 127, "stride": (1, 1),
        "padding": (0, 0, 0, 0), "output_scale": 0.5}
    return Layer(**(fields | changes))


def chain() -> list[ConvLayer]:
    """A pooled convolution, a fully connected layer whose kernel is the map, and one of 1x1."""
    return [layer("conv", (6, 2, 3, 3), 0, padding=(1, 1, 1, 1), pool=(2, 2, 2, 2), ranking=TOP3),
            layer("fc-1", (9, 6, 4, 4), 1, ranking=Ranking(
                score="mean", select="energy", value=0.5, score_multiplier=2**30, score_shift=1, energy_power=2)),
            layer("fc_2", (5, 9, 1, 1), 2)]


def network(layers=None, **fields) -> QuantizedNetwork:
    return QuantizedNetwork(
        name="small", input=NetworkInput(scale=1 / 255, zero_point=-128, shape=(2, 8, 8)), metadata={"seed": 1},
        layers=tuple(chain() if layers is None else layers), **fields)


def branches() -> QuantizedNetwork:
    """Two branches that are added, one of them of a concatenation; every operation occurs, winners sit in three."""
    top = Ranking(score="max", select="topk", value=7)
    return network([
        layer("stem", (16, 2, 3, 3), 0, padding=(1, 1, 1, 1), ranking=top),
        layer("left", (16, 16, 3, 3), 1, padding=(1, 1, 1, 1), ranking=top),
        layer("right", (8, 16, 1, 1), 2, inputs="stem", ranking=TOP3),
        ConcatLayer(name="both", inputs=("left", "left", "right")),
        layer("mix", (16, 40, 1, 1), 3),
        AddLayer(name="sum", inputs=("stem", "mix"), output_scale=0.7, output_zero_point=-100, activation="relu",
                 ranking=TOP3),
        MaxPoolLayer(name="largest", kernel=(3, 3), stride=(2, 2), padding="same"),
        AveragePoolLayer(name="smooth", inputs=("sum",), kernel=(2, 2)),
        AddLayer(name="pooled", inputs=("largest", "smooth"), output_scale=1.1, output_zero_point=-90),
        MeanLayer(name="mean", output_scale=0.6, output_zero_point=-60),
        layer("fc", (5, 16, 1, 1), 4, input_zero_point=-60, output_zero_point=0)])


IMAGE = np.random.default_rng(9).integers(-128, 128, (2, 8, 8), np.int8)


def test_winners_mask_the_next_layer():
    (conv, conv_out), (fc1, fc1_out), (fc2, fc2_out) = network().run(IMAGE)
    assert conv.channel_mask is None and conv_out.output.shape == (6, 4, 4) and conv_out.winners.sum() == 3
    assert np.array_equal(fc1.channel_mask, conv_out.winners) and np.array_equal(fc1.input, conv_out.output)
    assert np.array_equal(fc2.channel_mask, fc1_out.winners) and fc1_out.output.shape == (9, 1, 1)
    assert 1 <= fc1_out.winners.sum() < 9 and fc2_out.winners.all() and fc2.ranking is None
    losers_zeroed = np.where(conv_out.winners[:, None, None] == 1, conv_out.output, np.int8(-128))
    assert np.array_equal(run(network().layers[1].job(losers_zeroed)).output, fc1_out.output)


def test_dense():
    results = network().run(IMAGE, dense=True)
    assert all(job.channel_mask is None and job.ranking is None and out.winners.all() for job, out in results)
    assert np.array_equal(results[0][1].output, network().run(IMAGE)[0][1].output)
    for job, out in branches().run(IMAGE, dense=True):
        assert out.winners.all() and (job is None or job.ranking is None)


def test_branches_see_losers_as_real_zeros():
    """The graph's values, worked out layer by layer with losers overwritten and no masks at all."""
    graph = branches()
    jobs, results = zip(*graph.run(IMAGE), strict=True)
    found = dict(zip((node.name for node in graph.layers), results, strict=True))
    assert [type(job) for job in jobs] == [LayerJob, LayerJob, LayerJob, type(None), LayerJob, AddJob, PoolJob,
                                           PoolJob, AddJob, PoolJob, LayerJob]
    seen = {"input": IMAGE}
    for node in graph.layers:
        maps = [seen[name] for name in node.inputs]
        output = np.concatenate(maps) if node.op == "concat" else run(node.job(*maps)).output
        winners, expected = found[node.name].winners, found[node.name].output
        if node.op != "concat":  # Its planes are its inputs' own, losers as computed.
            np.testing.assert_array_equal(output, expected, node.name)
        keep = winners[:, None, None] == 1 if node.output.masked else True
        seen[node.name] = np.where(keep, output, np.int8(node.output_zero_point))
    np.testing.assert_array_equal(found["both"].output, np.concatenate(
        [found[name].output for name in ("left", "left", "right")]))
    np.testing.assert_array_equal(found["both"].winners, np.concatenate(
        [found[name].winners for name in ("left", "left", "right")]))
    np.testing.assert_array_equal(jobs[4].channel_mask, found["both"].winners)
    np.testing.assert_array_equal(jobs[5].channel_mask_1, found["stem"].winners)
    assert jobs[5].channel_mask_2 is None and jobs[6].channel_mask is not None


def test_a_batch_is_run_like_each_image():
    images = np.random.default_rng(2).integers(-128, 128, (3, 2, 8, 8), np.int8)
    for dense in (False, True):
        batch = run_batch(branches(), images, dense=dense)
        for index, image in enumerate(images):
            for (_, expected), found in zip(branches().run(image, dense=dense), batch, strict=True):
                for name in ("output", "scores", "winners"):
                    np.testing.assert_array_equal(getattr(found, name)[index].numpy(), getattr(expected, name))


def test_nodes_state_the_sizes():
    nodes = {node.name: node for node in branches().layers}
    assert nodes["largest"].padding == (0, 1, 0, 1) and nodes["largest"].output_shape == (16, 4, 4)
    assert nodes["smooth"].stride == (2, 2) and nodes["smooth"].inputs == ("sum",)
    assert nodes["mean"].kernel == (4, 4) and nodes["mean"].output_shape == (16, 1, 1)
    assert nodes["both"].input_shapes == ((16, 8, 8), (16, 8, 8), (8, 8, 8)) and nodes["both"].output_shape[0] == 40
    assert (nodes["mix"].macs, nodes["mix"].parameters) == (16 * 40 * 64, 16 * 41) and nodes["sum"].macs == 0
    assert nodes["left"].groups == 1 and nodes["left"].pool is None and nodes["left"].op == "conv"
    assert (nodes["sum"].activation_min, nodes["sum"].activation_max) == (-100, 127)
    assert [node.name for node in branches().consumers("stem")] == ["left", "right", "sum"]
    assert nodes["largest"].output_scale == 0.7 and nodes["largest"].output_zero_point == -100
    with pytest.raises(JobError, match=r"^layer: expected one of stem, .*, got 'nothing'$"):
        branches().layer("nothing")
    with pytest.raises(JobError, match=r"^layer sum: inputs: expected 2 maps and as many masks, got 1 and 1$"):
        branches().layer("sum").job(IMAGE)


def test_relu6_ends_at_six():
    six = dict(out_channels=1, kernel=(1, 1), activation="relu6", output_zero_point=-100)
    for scale, end in ((0.1, -40), (6 / 255, 127), (4.0, -98)):  # 6 / 4 = 1.5, rounded up
        graph = network([ConvLayer(name="conv", output_scale=scale, **six)])
        assert (graph.layers[0].activation_min, graph.layers[0].activation_max) == (-100, end)


# Files

@pytest.mark.parametrize("make", [network, branches])
def test_file(tmp_path, make):
    before = make()
    before.save(tmp_path / "net.npz")
    after = QuantizedNetwork.load(tmp_path / "net.npz")
    assert (after.name, after.input, after.metadata) == (before.name, before.input, before.metadata)
    assert not after.weights_are_random
    for one, other in zip(before.layers, after.layers, strict=True):
        assert one.ranking == other.ranking and one.output == other.output and one.inputs == other.inputs
    for (job, out), (loaded_job, loaded_out) in zip(before.run(IMAGE), after.run(IMAGE), strict=True):
        assert type(job) is type(loaded_job)
        assert job is None or all(np.array_equal(getattr(job, name), getattr(loaded_job, name))
                                  for name in job.__dataclass_fields__)
        assert np.array_equal(out.output, loaded_out.output)


def test_a_file_of_a_chain_needs_no_operations_and_inputs(tmp_path):
    """What a network of convolutions stored before there were other operations."""
    arrays = {"name": np.array("old"), "metadata": np.array("{}"), "input_scale": np.float64(1 / 255),
              "input_zero_point": np.int64(-128), "input_shape": np.array([2, 8, 8]),
              "layers": np.array(["conv", "fc-1", "fc_2"])}
    for item in chain():
        fields = item.tensors.arrays() | {
            "input_zero_point": np.int64(-128), "output_zero_point": np.int64(-128), "activation_min": np.int64(-128),
            "activation_max": np.int64(127), "groups": np.int64(1), "stride": np.array([1, 1]),
            "padding": np.array(item.padding), "output_scale": np.float64(0.5), "score": np.array("max"),
            "select": np.array("topk"), "select_value": np.array(3)}
        if item.pool:
            fields["pool"] = np.array(item.pool)
        arrays |= {f"{item.name}.{name}": array for name, array in fields.items()}
    np.savez_compressed(tmp_path / "old.npz", **arrays)
    old = QuantizedNetwork.load(tmp_path / "old.npz")
    expected = network([dataclasses.replace(item, ranking=TOP3) for item in chain()])
    for (_, out), (_, expected_out) in zip(old.run(IMAGE), expected.run(IMAGE), strict=True):
        assert np.array_equal(out.output, expected_out.output) and np.array_equal(out.winners, expected_out.winners)


def test_drawn_weights_are_stored_and_remembered(tmp_path):
    before = network([ConvLayer(name="a", out_channels=8, kernel=(3, 3), activation="relu"),
                      ConvLayer(name="b", out_channels=4, kernel=(1, 1))], seed=3)
    assert before.weights_are_random
    before.save(tmp_path / "drawn.npz")
    after = QuantizedNetwork.load(tmp_path / "drawn.npz")
    assert after.weights_are_random and after.layers[0].draw is None
    assert np.array_equal(before.run(IMAGE)[1][1].output, after.run(IMAGE)[1][1].output)


@pytest.mark.parametrize(("changes", "message"), [
    ({"layers": np.arange(3)}, "layers: expected layer names [L], got int64"),
    ({"metadata": np.array("[1]")}, "metadata: expected a JSON object, got something else"),
    ({"both.op": np.array("stack")},
     "both.op: expected one of conv, max_pool, average_pool, mean, add, concat, got 'stack'"),
    ({"mix.weight": np.zeros((16, 40, 1, 1))},
     "layer mix: weight: expected int8 [O,C/groups,KH,KW], got float64 [16,40,1,1]"),
    ({"mix.weight": None}, "mix.weight: expected an array of this name, got none"),
    ({"largest.kernel": np.array([3.0, 3.0])}, "largest.kernel: expected integers [n], got float64"),
    ({"sum.inputs": np.array(["stem", "fc"])},
     "layer sum: inputs: expected names of earlier layers, or input, got 'fc'"),
])
def test_refuses_files(tmp_path, changes, message):
    branches().save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as stored:
        arrays = {name: array for name, array in (dict(stored) | changes).items() if array is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(JobError) as error:
        QuantizedNetwork.load(tmp_path / "bad.npz")
    assert str(error.value) == message


# What a network refuses

def conv(name: str, outputs: int = 4, **fields) -> ConvLayer:
    return ConvLayer(name=name, out_channels=outputs, **({"kernel": (1, 1)} | fields))


REFUSED = [
    (lambda: [], "layers: expected at least one, got 0"),
    (lambda: [chain()[0], dataclasses.replace(chain()[1], input_zero_point=0)],
     "layer fc-1: input_zero_point: expected -128, that of the tensor before, got 0"),
    (lambda: [chain()[0], layer("fc-1", (9, 5, 4, 4), 1)],
     "layer fc-1: weight: expected C/groups = 6 input channels, got 5"),
    (lambda: [layer("fc", (9, 5), 1)], "layer fc: weight: expected int8 [O,C/groups,KH,KW], got int8 [9,5]"),
    (lambda: [layer("fc", (9, 2, 8, 8), 1, shift=np.full(9, 40, np.int32))],
     "layer fc: shift: expected values in -31..30, got 40 at index 0"),
    (lambda: [conv("a"), layer("b", (3, 4, 1, 1), 0)],
     "layer a: weight: expected tensors and quantization in all layers or in none, got none here"),
    (lambda: [layer("a", (3, 2, 1, 1), 0), MeanLayer(name="b")],
     "layer b: output_scale: expected tensors and quantization in all layers or in none, got none here"),
    (lambda: [conv("a", ranking=Ranking(score="max", select="topk", value=7))],
     "layer a: select_value: expected k in 1..4 for topk, got 7"),
    (lambda: [conv("a"), conv("a")], "layer a: name: expected one that no layer before has, got 'a'"),
    (lambda: [conv("a"), conv("b", inputs="c"), conv("c")],
     "layer b: inputs: expected names of earlier layers, or input, got 'c'"),
    (lambda: [conv("a", inputs=("input", "input"))], "layer a: inputs: expected 1, got 2"),
    (lambda: [AddLayer(name="a")], "layer a: inputs: expected 2, got 1"),
    (lambda: [conv("a", 3), AddLayer(name="b", inputs=("a", "input"))],
     "layer b: inputs: expected two of one shape, the first is [3, 8, 8], got [2, 8, 8]"),
    (lambda: [AddLayer(name="b", inputs=("input", "input"), output_scale=1e-9, output_zero_point=0)],
     "layer b: output_scale: expected a factor in 2**-32..1 from the scales, got 7.4"),
    (lambda: [conv("a", kernel=(12, 1))], "layer a: weight: expected a kernel of 1..11, got [12, 1]"),
    (lambda: [conv("a", kernel=(9, 1))],
     "layer a: input: expected rows and columns with the padding at least the kernel [9, 1], got [2, 8, 8]"),
    (lambda: [conv("a", groups=4)], "layer a: groups: expected a divisor of 2 input and 4 output channels, got 4"),
    (lambda: [conv("a", padding="full")], "layer a: padding: expected same, valid or four integers, got 'full'"),
    (lambda: [conv("a", activation="elu")],
     "layer a: activation: expected one of none, relu, relu6, or two integers, got 'elu'"),
    (lambda: [conv("a", activation=(5, 4))],
     "layer a: activation: expected a low end no larger than the high one, got (5, 4)"),
    (lambda: [MaxPoolLayer(name="p", kernel=(9, 9))],
     "layer p: kernel: expected a kernel no larger than the map [8, 8], got (9, 9)"),
    (lambda: [conv("a", pool=(2, 2, 2, 2), pool_padding=(2, 0, 0, 0))],
     "layer a: pool_padding: expected four integers (top, bottom, left, right), each smaller than the pool's kernel, "
     "got 2"),
    (lambda: [MaxPoolLayer(name="p", kernel=(2, 2), output_scale=0.5, output_zero_point=-128)],
     "layer p: output_scale: expected that of the input, 0.00392156862745098 and -128, which a max_pool keeps, "
     "got 0.5 and -128"),
    (lambda: [conv("a", 16), ConcatLayer(name="c", inputs=("a", "input"))],
     "layer c: inputs: expected one scale and zero point, the first has 0.0313"),
    (lambda: [conv("a", stride=(2, 2)), ConcatLayer(name="c", inputs=("a", "input"))],
     "layer c: inputs: expected maps of one size, the first is [4, 4], got [8, 8]"),
    (lambda: [conv("a", 8), conv("b", 8, inputs="input", ranking=TOP3), ConcatLayer(name="c", inputs=("a", "b"))],
     "layer c: inputs: expected a ranked one to begin at a multiple of 16 channels, got 8"),
    (lambda: [conv("a"), ConcatLayer(name="c", inputs="a", ranking=TOP3)],
     "layer c: ranking: expected none on a concat, but on its inputs, got one"),
]


@pytest.mark.parametrize(("layers", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_refuses(layers, message):
    with pytest.raises(JobError) as error:
        network(layers())
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("fields", "message"), [
    ({"name": "a.b"}, "name: expected letters, digits, _ and -, got 'a.b'"),
    ({"name": "input"}, "name: expected letters, digits, _ and -, got 'input'"),
    ({"output_scale": 0.0, "output_zero_point": 0},
     "layer a: output_scale: expected a finite number above 0, got 0.0"),
    ({"output_scale": 1.0},
     "layer a: output_zero_point: expected a scale and a zero point of the output, or neither, got ['output_scale']"),
    ({"inputs": (1,)}, "layer a: inputs: expected names of layers, got (1,)"),
    ({"ranking": "max"}, "layer a: ranking: expected a Ranking or a WinnerRule, got str"),
    ({"inputs": ()}, "layer a: inputs: expected names of layers, got ()"),
    ({"kernel": 3}, "layer a: kernel: expected two positive integers (rows, columns), got int"),
    ({"stride": (1, 0)}, "layer a: stride: expected two positive integers (rows, columns), got 0"),
    ({"outputs": 70_000}, "layer a: out_channels: expected an integer in 1..65535, got 70000"),
    ({"pool": (2, 2)}, "layer a: pool: expected four positive integers (kernel rows, kernel columns, stride rows, "
                       "stride columns), got (2, 2)"),
])
def test_refuses_descriptions(fields, message):
    with pytest.raises(JobError) as error:
        conv(**({"name": "a"} | fields))
    assert str(error.value) == message


def test_refuses_images_and_files(tmp_path):
    with pytest.raises(JobError, match=r"^image: expected int8 \[2, 8, 8\], got \[8, 8\]$"):
        network().run(IMAGE[0])
    with pytest.raises(JobError, match=r"^input: expected int8 \[C,H,W\], got float64 \[2,8,8\]$"):
        network().run(IMAGE.astype(float))
    with pytest.raises(JobError, match=r"^input_shape: expected three positive integers"):
        NetworkInput(scale=1.0, zero_point=0, shape=(1, 2))
    with pytest.raises(JobError, match=r"^seed: expected an integer in 0\.\."):
        network(seed=-1)
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(JobError, match=r"^layers: expected an array of this name, got none$"):
        QuantizedNetwork.load(tmp_path / "other.npz")


# Winners

def test_winners_are_set_where_a_convolution_profits():
    graph = branches()
    # "sum" feeds pools alone, "mix" and "pooled" an addition and a mean, "fc" nothing.
    assert graph.ranked_with_profit() == ("stem", "left", "right", "mean")
    half = graph.with_winners(0.5)
    assert {node.name: node.ranking.value for node in half.layers if node.ranking} == {
        "stem": 8, "left": 8, "right": 4, "mean": 8}
    assert all(node.ranking is None for node in half.without_winners().layers)
    some = graph.with_winners({"left": 0.8, "fc": 0.1}, score="absmax", select="energy")
    assert some.layer("left").ranking == Ranking(score="absmax", select="energy", value=0.8)
    assert {node.name for node in some.layers if node.ranking} == {"left", "fc"}
    assert some.metadata == graph.metadata and np.array_equal(some.layers[0].weight, graph.layers[0].weight)
    fixed = graph.with_winners({"left": 17}, select="threshold", score="mean").layer("left").ranking
    assert (fixed.select, fixed.value) == ("threshold", 17)
    # The mean itself: 1 / 64 = 2**30 * 2**(-5 - 31).
    assert (fixed.score_multiplier, fixed.score_shift) == (2**30, -5)
    with pytest.raises(JobError, match=r"^winners: expected layers among stem, .*, got 'nothing'$"):
        graph.with_winners({"nothing": 0.5})
    with pytest.raises(JobError, match=r"^layer left: rate: expected a number above 0, at most 1, got 1\.5$"):
        graph.with_winners({"left": 1.5})


def test_winners_of_a_concatenation_begin_at_multiples_of_16():
    graph = network([conv("a", 8, activation="relu"), conv("b", 8, inputs="input", activation="relu"),
                     ConcatLayer(name="both", inputs=("a", "b")), conv("last")])
    assert graph.ranked_with_profit() == ("a",)
    masked = graph.with_winners(0.25)
    assert masked.winner_count("both") == 2 + 8
    (_, first), (_, second), (_, both), (job, _) = masked.run(IMAGE)
    assert first.winners.sum() == 2 and both.winners.tolist() == first.winners.tolist() + [1] * 8
    np.testing.assert_array_equal(both.scores, np.concatenate([first.scores, second.scores]))
    np.testing.assert_array_equal(job.channel_mask, both.winners)


def test_number_of_winners():
    graph = branches()
    assert [graph.winner_count(name) for name in ("input", "stem", "both", "mix", "fc")] == [None, 7, 17, None, None]
    energy = graph.with_winners({"left": 0.8}, select="energy")
    assert energy.winner_count("left", {"left": 0.3}) == 5 and energy.winner_count("both", {"left": 0.3}) == 5 + 5 + 8
    assert dataclasses.replace(energy, metadata={"winner_rates": {"left": 0.01}}).winner_count("left") == 1
    with pytest.raises(JobError, match=r"^layer left: expected its winner rate in the network's metadata, got none$"):
        energy.winner_count("left")
    everyone = graph.with_winners({"left": 1}, select="all")
    assert everyone.winner_count("left") == 16


@pytest.mark.parametrize(("fields", "message"), [
    ({"select": "best"}, "select: expected one of all, topk, energy, threshold, got 'best'"),
    ({}, "winners: expected rate or value for topk, got none"),
    ({"rate": 0.5, "value": 3}, "winners: expected rate or value for topk, got rate and value"),
    ({"select": "energy", "rate": 0.5}, "winners: expected eps for energy, got rate"),
    ({"select": "all", "eps": 0.5}, "winners: expected neither rate, value nor eps for all, got eps"),
    ({"rate": 0}, "rate: expected a number above 0, at most 1, got 0"),
    ({"rate": "half"}, "rate: expected a number above 0, at most 1, got 'half'"),
    ({"value": 0}, "select_value: expected k in 1..65535 (an integer) for topk, got 0"),
    ({"select": "energy", "eps": 1.5}, "select_value: expected eps in 0..1 for energy, got 1.5"),
    ({"select": "energy", "eps": 0.5, "power": 3}, "energy_power: expected 1 or 2, got 3"),
    ({"score": "min", "rate": 0.5}, "score: expected one of max, absmax, mean, got 'min'"),
    ({"score": "mean", "rate": 0.5, "score_shift": 3},
     "score_shift: expected both score_multiplier and score_shift, or neither, got one of them"),
])
def test_winner_rules_are_checked(fields, message):
    with pytest.raises(JobError) as error:
        WinnerRule(**fields)
    assert str(error.value) == message


def test_measured_rates(tmp_path):
    path = tmp_path / "rates.json"
    path.write_text('{"stem": 0.5, "left": 1}')
    assert branches().with_winners(read_rates(path)).layer("stem").ranking.value == 8
    for text in ("[1]", "{", '{"stem": 0}', '{"stem": "half"}', '{"stem": true}'):
        path.write_text(text)
        with pytest.raises(JobError, match=r"expected a JSON object of layers and their rates above 0, at most 1"):
            read_rates(path)


# Static sparsity

def test_zero_blocks_equal_their_definition():
    rng = np.random.default_rng(3)
    for outputs, depth, columns, groups in ((10, 6, 4, 1), (32, 3, 16, 1), (5, 4, 8, 1), (12, 2, 4, 2), (9, 1, 16, 9)):
        weight = rng.integers(-3, 4, (outputs, depth, 2, 3), np.int8)
        weight[rng.random((outputs, depth)) < 0.8] = 0
        width = outputs // groups
        expected = [[not weight[first:min(first + columns, (group + 1) * width), channel].any()
                     for channel in range(depth)]
                    for group in range(groups) for first in range(group * width, (group + 1) * width, columns)]
        assert zero_blocks(weight, columns, groups=groups).tolist() == expected
    blocks = branches().zero_blocks(16)
    assert set(blocks) == {"stem", "left", "right", "mix", "fc"} and blocks["mix"].shape == (1, 40)
    with pytest.raises(JobError, match=r"^columns: expected an integer in 1\.\.2147483647, got 0$"):
        zero_blocks(weight, 0)


def test_sizes_need_no_weights(monkeypatch):
    def refuse(**_):
        raise AssertionError("weights were drawn")

    monkeypatch.setattr(network_module, "draw_tensors", refuse)
    graph = network([conv("a", 4096, kernel=(3, 3), ranking=WinnerRule(rate=0.25)), conv("b", 4096, kernel=(3, 3))])
    assert graph.layers[1].macs == 4096 * 4096 * 9 * 16 and graph.winner_count("a") == 1024
    assert graph.with_winners(0.5).layers[0].ranking.value == 2048
    with pytest.raises(AssertionError, match="weights were drawn"):
        assert graph.layers[0].weight.size
