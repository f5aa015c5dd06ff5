"""Winners-take-all in float networks: gradients, the rules by their definitions, and the engine's own selection."""

import copy
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from torch import nn

from golden import ranking as integer
from golden.checks import JobError
from golden.dasnet import winners as wta
from golden.dasnet.winners import WinnersTakeAll, attach, attached, channel_scores, detach, mask, record, set_dense
from golden.winner_rule import WinnerRule

RULES = [
    WinnerRule(rate=0.5), WinnerRule(value=2), WinnerRule(score="mean", rate=0.3), WinnerRule(score="absmax", value=1),
    WinnerRule(select="energy", eps=0.7), WinnerRule(select="energy", eps=0.6, power=2, score="mean"),
    WinnerRule(select="threshold", value=1), WinnerRule(select="all"),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_network(seed: int = 0) -> nn.Sequential:
    """conv, relu, pool, conv, relu, flatten, fc, in float64; names as written here."""
    torch.manual_seed(seed)
    network = nn.Sequential()
    for name, module in (
            ("conv1", nn.Conv2d(2, 6, 3, padding=1)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2)),
            ("conv2", nn.Conv2d(6, 5, 3, padding=1)), ("relu2", nn.ReLU()), ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(20, 7)), ("relu3", nn.ReLU()), ("fc2", nn.Linear(7, 3))):
        network.add_module(name, module)
    return network.double()


# Gradients


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.score}-{rule.select}-{rule.power}")
def test_gradients_equal_finite_differences(rule):
    network = small_network()
    for module in attach(network, {"pool1": rule, "relu3": rule}).values():
        module.scale = 0.3  # makes a threshold of 1 one that some channels reach
    x = torch.randn(3, 2, 4, 4, generator=generator(1), dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 3, generator=generator(2), dtype=torch.float64)

    def loss():
        return (network(x) * weights).sum()

    tensors = [x, *network.parameters()]
    gradients = torch.autograd.grad(loss(), tensors)
    step = 1e-6
    with torch.no_grad():
        for tensor, gradient in zip(tensors, gradients, strict=True):
            flat, differences = tensor.view(-1), torch.empty(tensor.numel(), dtype=torch.float64)
            for place in range(len(flat)):
                value = flat[place].item()
                flat[place] = value + step
                above = loss()
                flat[place] = value - step
                differences[place] = (above - loss()) / (2 * step)
                flat[place] = value
            torch.testing.assert_close(gradient.flatten(), differences, rtol=1e-6, atol=1e-7)


def test_losers_receive_exactly_no_gradient():
    network = small_network()
    attach(network, {"pool1": WinnerRule(rate=0.5), "relu3": WinnerRule(value=2)})
    outputs = {}
    for name in ("pool1", "relu3"):
        network.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: outputs.update({name: y}))
    network(torch.randn(1, 2, 4, 4, generator=generator(4), dtype=torch.float64)).square().sum().backward()

    conv_wins = outputs["pool1"][0].abs().amax((1, 2)) > 0
    fc_wins = outputs["relu3"][0] > 0
    assert conv_wins.sum() == 3 and fc_wins.sum() == 2
    for layer, wins in ((network.conv1, conv_wins), (network.fc1, fc_wins)):
        assert (layer.weight.grad[~wins] == 0).all() and (layer.bias.grad[~wins] == 0).all()
        assert (layer.weight.grad[wins].flatten(1) != 0).any(1).all() and (layer.bias.grad[wins] != 0).all()
    assert (network.conv2.weight.grad[:, ~conv_wins] == 0).all()
    assert (network.fc2.weight.grad[:, ~fc_wins] == 0).all() and (network.fc2.weight.grad[:, fc_wins] != 0).all()


def test_a_step_of_training_updates_winners_only():
    network = small_network()
    attach(network, {"relu3": WinnerRule(value=2)})
    x = torch.randn(1, 2, 4, 4, generator=generator(5), dtype=torch.float64)
    before = network.fc1.weight.detach().clone()
    network.fc1.register_forward_hook(lambda _, __, output: scores.append(output.relu()))
    scores = []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(x).square().sum().backward()
    optimizer.step()
    changed = (network.fc1.weight != before).any(1)
    assert changed.nonzero().flatten().tolist() == sorted(scores[0][0].argsort(descending=True)[:2].tolist())


def test_winners_pass_unchanged_and_losers_are_zero():
    x = torch.zeros(2, 4, 3, 3)
    x[0, :, 1, 2] = torch.tensor([1.0, 4.0, 2.0, 3.0])
    x[1, :, 0, 0] = torch.tensor([9.0, 0.5, 8.0, 7.0])
    x[1, 1] = 0.95  # a larger sum than that of channel 2, but a smaller maximum
    expected = torch.tensor([[0.0, 1, 0, 1], [1, 0, 1, 0]])[:, :, None, None] * x
    module = WinnersTakeAll(WinnerRule(rate=0.5))
    assert torch.equal(module(x), expected)
    assert torch.equal(module(x.contiguous(memory_format=torch.channels_last)), expected)
    by_mean = WinnersTakeAll(WinnerRule(rate=0.5, score="mean"))(x)
    assert by_mean.abs().amax((2, 3)).gt(0).tolist() == [[False, True, False, True], [True, True, False, False]]
    assert list(module.parameters()) == [] and module.state_dict() == {}


def test_scores_of_maps_and_neurons():
    x = torch.tensor([[[[1.0, -5.0]], [[2.0, 0.0]], [[-1.0, -3.0]]]])
    assert channel_scores(x, WinnerRule(rate=1)).tolist() == [[1, 2, 0]]
    assert channel_scores(x, WinnerRule(rate=1, score="absmax")).tolist() == [[5, 2, 3]]
    assert channel_scores(x, WinnerRule(rate=1, score="mean")).tolist() == [[0, 1, 0]]
    neurons = torch.tensor([[1.0, -2.0, 0.5]])
    assert channel_scores(neurons, WinnerRule(rate=1)).tolist() == [[1, 0, 0.5]]
    assert channel_scores(neurons, WinnerRule(rate=1, score="mean")).tolist() == [[1, 0, 0.5]]
    assert channel_scores(neurons, WinnerRule(rate=1, score="absmax")).tolist() == [[1, 2, 0.5]]
    # Half of the sum of both pixels: a multiplier of 2**30 with no shift.
    halved = WinnerRule(rate=1, score="mean", score_multiplier=2**30, score_shift=0)
    assert channel_scores(x.abs(), halved).tolist() == [[3, 1, 2]]


# Rules by their definitions


def fewest(row: list[Fraction], enough) -> list[bool]:
    """The first of all sets of the fewest scores, at least one, whose greatest sum is enough; by trying them all."""
    for size in range(1, len(row) + 1):
        best = max(combinations(range(len(row)), size), key=lambda places: sum(row[place] for place in places))
        if enough(size, sum(row[place] for place in best)):
            return [place in best for place in range(len(row))]
    raise AssertionError("the whole is always enough")


def tied_scores(rows: int, channels: int, seed: int) -> torch.Tensor:
    """Small integers, with many ties, rows of zeros among them."""
    scores = torch.randint(0, 5, (rows, channels), generator=generator(seed))
    scores[::7] = 0
    return scores * torch.randint(0, 2, (rows, 1), generator=generator(seed + 1)).mul(9).add(1)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5, 0.813, 1.0])
@pytest.mark.parametrize("real", [False, True])
def test_energy_rule_is_its_definition(power, eps, real):
    scores = tied_scores(40, 7, 1).double()
    if real:  # exact in float64, as are the sums that Fraction takes of it
        scores = torch.randint(0, 2**20, (40, 7), generator=generator(2)).double() / 2**10
    share = Fraction(round(65536 * eps), 65536)
    expected = []
    for row in scores.tolist():
        energies = [Fraction(value) ** power for value in row]
        whole = share * sum(energies)
        expected.append(fewest(energies, lambda _, found, whole=whole: found >= whole))
    rule = WinnerRule(select="energy", eps=eps, power=power)
    assert mask(scores, rule).tolist() == expected
    assert mask(scores.float(), rule).tolist() == expected


@pytest.mark.parametrize("rule, count", [(WinnerRule(value=3), 3), (WinnerRule(rate=0.4), 3), (WinnerRule(rate=1), 7),
                                         (WinnerRule(rate=0.01), 1), (WinnerRule(rate=0.5), 4)])
def test_topk_rule_is_its_definition(rule, count):
    scores = tied_scores(40, 7, 3).double()
    expected = [fewest([Fraction(value) for value in row], lambda size, _: size == count) for row in scores.tolist()]
    assert mask(scores, rule).tolist() == expected


def test_threshold_and_all():
    scores = torch.tensor([[0.0, 1.5, 2.0], [0, 0, 0]])
    assert mask(scores, WinnerRule(select="threshold", value=2)).tolist() == [[False, False, True], [False] * 3]
    assert mask(scores, WinnerRule(select="threshold", value=0)).all()
    assert mask(scores, WinnerRule(select="all")).all()
    module = WinnersTakeAll(WinnerRule(select="threshold", value=4), scale=0.25)
    assert module(torch.tensor([[0.99, 1.0, 1.5]])).gt(0).tolist() == [[False, True, True]]


# As the engine selects


@pytest.mark.parametrize("rule", [*RULES, WinnerRule(select="energy", eps=0.95), WinnerRule(select="energy", eps=1.0)],
                         ids=lambda rule: f"{rule.score}-{rule.select}-{rule.rate or rule.value or rule.eps}")
@pytest.mark.parametrize("channels", [2, 13, 3000])
def test_integer_scores_win_as_in_the_integer_reference(rule, channels):
    scores = torch.randint(0, 256, (200, channels), generator=generator(channels))
    scores[:100] //= 40  # ties; the others' sums of squares are more than float32 holds exactly
    scores[::9] = 0
    expected = integer.select_winners(scores, rule.ranking(channels, 1)).bool()
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(mask(scores.to(dtype), rule), expected)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.score}-{rule.select}-{rule.power}")
def test_float_maps_win_as_their_int8_form_where_scores_do_not_tie(rule):
    scale, zero_point, channels, images = 0.037, -128, 10, 400
    quantized = torch.randint(-128, 128, (images, channels, 3, 3), generator=generator(7), dtype=torch.int32)
    quantized = quantized.minimum(torch.randint(-100, 128, (images, channels, 1, 1), generator=generator(8)).int())
    real = scale * (quantized - zero_point).float()
    ranking = rule.ranking(channels, 9)
    scores = integer.channel_scores(quantized, zero_point, ranking)
    expected = integer.select_winners(scores, ranking).bool()

    # Left out are images whose scores tie, and those whose energy may reach its share by rounding.
    clear = (scores.sort(1).values.diff(dim=1) > 0).all(1)
    if rule.select == "energy":
        energy = scores.sort(1, descending=True).values.pow(rule.power).cumsum(1).double()
        bound = 1e-6 * energy[:, -1]
        if rule.score == "mean":  # Means are rounded to integers, so squares are off by a score and a quarter.
            bound += (1 + rule.eps) * (scores + 0.25).sum(1)
        clear &= (energy - rule.eps * energy[:, -1:]).abs().min(1).values > bound
    assert clear.sum() >= 50
    found = WinnersTakeAll(rule, scale=scale)(real).ne(0).any(3).any(2)
    # A winner may be a channel of zeros, which does not show; its score is then 0.
    assert torch.equal(found[clear], (expected & (scores > 0))[clear])


# In a network


def test_attach_and_detach_leave_the_network_as_it_was():
    network, x = small_network(), torch.randn(4, 2, 4, 4, generator=generator(1), dtype=torch.float64)
    before, output = copy.deepcopy(network.state_dict()), network(x)
    modules = list(network.named_modules())
    rules = {"relu3": WinnerRule(value=1), "pool1": WinnerRule(rate=0.5)}
    found = attach(network, rules)
    assert list(found) == ["relu3", "pool1"] and {name: one.rule for name, one in found.items()} == rules
    assert list(attached(network)) == ["pool1", "relu3"]  # in the network's order
    assert list(network.named_modules()) == modules and list(network.state_dict()) == list(before)
    assert not torch.equal(network(x), output)

    set_dense(network, True)
    assert torch.equal(network(x), output)
    set_dense(network, False)
    assert not torch.equal(network(x), output)

    detach(network)
    assert attached(network) == {} and torch.equal(network(x), output)
    assert all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_second_rule_takes_the_place_of_the_first():
    network = small_network()
    attach(network, {"pool1": WinnerRule(rate=0.5)})
    attach(network, {"pool1": WinnerRule(value=1)})
    assert attached(network)["pool1"].rule == WinnerRule(value=1)
    assert len(network.pool1._forward_hooks) == 1


def test_a_copy_has_winners_of_its_own(tmp_path):
    network = small_network()
    attach(network, {"pool1": WinnerRule(value=1)})
    torch.save(network, tmp_path / "network")
    for other in (copy.deepcopy(network), torch.load(tmp_path / "network", weights_only=False)):
        set_dense(other, True)
        assert attached(other)["pool1"].dense and not attached(network)["pool1"].dense
        set_dense(other, False)
        x = torch.randn(2, 2, 4, 4, generator=generator(1), dtype=torch.float64)
        assert torch.equal(other(x), network(x))
        detach(other)
        assert not torch.equal(other(x), network(x))


def test_statistics_count_every_image_and_channel():
    network = small_network()
    attach(network, {"pool1": WinnerRule(select="energy", eps=0.8), "relu3": WinnerRule(value=2)})
    x = torch.randn(9, 2, 4, 4, generator=generator(1), dtype=torch.float64)
    with record(network) as statistics:
        network(x[:5])
        network(x[5:])
        set_dense(network, True)
        network(x)  # no selection: not counted
        set_dense(network, False)
    network(x)  # not recorded any more
    detach(network)
    scores = network.pool1(network.relu1(network.conv1(x))).amax((2, 3))
    expected = mask(scores, WinnerRule(select="energy", eps=0.8))
    assert len(set(expected.sum(1).tolist())) > 1
    found = statistics["pool1"]
    assert found.counts.tolist() == expected.sum(1).tolist() and found.wins.tolist() == expected.sum(0).tolist()
    assert found.rate == pytest.approx(expected.double().mean().item())
    assert found.frequency.tolist() == pytest.approx(expected.double().mean(0).tolist())
    assert statistics["relu3"].counts.tolist() == [2] * 9 and statistics["relu3"].rate == pytest.approx(2 / 7)


def test_modules_within_a_network_are_switched_and_recorded_too():
    network = nn.Sequential(nn.ReLU(), WinnersTakeAll(WinnerRule(value=1)))
    x = torch.tensor([[1.0, 2.0]])
    assert network(x).tolist() == [[0, 2]] and attached(network) == {}
    with record(network) as statistics:
        network(x)
    assert statistics["1"].wins.tolist() == [0, 1]
    set_dense(network, True)
    assert network(x).tolist() == [[1, 2]]


def test_as_baseline_restores_each_module():
    network = small_network()
    attach(network, {"pool1": WinnerRule(value=1), "relu3": WinnerRule(value=1)})
    attached(network)["relu3"].dense = True
    network.conv2.eval()
    with wta.as_baseline(network):
        assert not any(module.training for module in network.modules())
        assert all(one.dense for one in attached(network).values())
    assert {name: one.dense for name, one in attached(network).items()} == {"pool1": False, "relu3": True}
    assert [name for name, module in network.named_modules() if not module.training] == ["conv2"]


def test_rates_on_their_way_from_one():
    network, rules = small_network(), {"relu1": WinnerRule(rate=0.3), "pool1": WinnerRule(value=2),
                                       "relu3": WinnerRule(select="energy", eps=0.7)}
    attach(network, rules)
    with pytest.raises(KeyboardInterrupt), wta.gradually(network) as come:
        for way, rate in ((0, 1), (0.25, 0.825), (0.5, 0.65), (1, 0.3)):
            come(way)
            found = {name: one.rule for name, one in attached(network).items()}
            assert found["relu1"].rate == pytest.approx(rate)
            assert found | {"relu1": rules["relu1"]} == rules  # those that state no rate hold
        assert found == rules  # the rate itself, not what rounding makes of it
        with pytest.raises(JobError, match=r"^way: expected a number in 0\.\.1, got 1\.5$"):
            come(1.5)
        come(0)
        raise KeyboardInterrupt
    assert {name: one.rule for name, one in attached(network).items()} == rules


# Refused


def test_bad_arguments_are_refused_by_name():
    network = small_network()
    names = "conv1, relu1, pool1, conv2, relu2, flatten, fc1, relu3, fc2"
    with pytest.raises(JobError, match=f"^layer: expected one of {names}, got 'relu9'$"):
        attach(network, {"relu1": WinnerRule(rate=0.5), "relu9": WinnerRule(rate=0.5)})
    with pytest.raises(JobError, match=r"^layer relu2: expected a WinnerRule, got float$"):
        attach(network, {"relu1": WinnerRule(rate=0.5), "relu2": 0.5})
    assert attached(network) == {}  # nothing has been changed
    with pytest.raises(JobError, match=r"^rule: expected a WinnerRule, got float$"):
        WinnersTakeAll(0.5)
    with pytest.raises(JobError, match=r"^scale: expected a finite number above 0, got 0$"):
        WinnersTakeAll(WinnerRule(rate=0.5), scale=0)
    attach(network, {"pool1": WinnerRule(value=7)})
    with pytest.raises(JobError, match=r"^layer pool1: select_value: expected k in 1\.\.6 for topk, got 7$"):
        network(torch.zeros(1, 2, 4, 4, dtype=torch.float64))
    shapes = r"float \[N,C,H,W\] or \[N,C\], got torch\.float32 \[2, 3, 4\]"
    with pytest.raises(JobError, match=f"^output: expected {shapes}$"):
        WinnersTakeAll(WinnerRule(rate=0.5))(torch.zeros(2, 3, 4))
    for name in ("counts", "rate", "frequency"):
        with pytest.raises(JobError, match=r"^statistics: expected at least one image, got none$"):
            getattr(wta.WinnerStatistics(), name)
