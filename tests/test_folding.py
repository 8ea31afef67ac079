"""Folding BatchNorm into convolutions: the same answers, and nothing of the network is touched."""

import pytest
import torch
from conftest import tiny_network
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from ftlab import backbones, families
from ftlab.folding import folded

LEFT = {  # how many BatchNorm have none of the convolutions that are known before them
    "densenet121": 62,  # they stand behind a concatenation: of 58 layers, of 3 transitions, norm5
    "mixnet_s": 34,  # behind convolutions of several sizes side by side
}
VARIANTS = (  # of each family: other stems, shortcuts, gates, padding, convolutions
    *("resnet18d", "seresnet18", "resnetblur18", "resnext50_32x4d", "ecaresnet26t", "skresnet18"),
    *("vgg11_bn", "mobilenetv2_050", "mnasnet_small", "tf_efficientnet_b0", "mixnet_s"),
    *("regnetx_002", "regnety_002"),
)


def lived(network):
    """A network whose BatchNorm has statistics, scales and shifts of its own."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.1)
    return network.eval()


def built(name: str) -> backbones.Network:
    torch.manual_seed(0)
    units = families.split(backbones.create(name))
    return lived(backbones.Network(units, 3, (0.5,) * 3, (0.5,) * 3))


def norms(network) -> int:
    return sum(isinstance(module, BatchNorm) for module in network.modules())


@pytest.mark.parametrize("name", [*backbones.BACKBONES, *VARIANTS])
@torch.no_grad()
def test_every_unit_answers_as_before(name):
    network = built(name)
    same, x = folded(network), torch.randn(2, 3, 64, 64)
    for unit, its in zip(network.units(), same.units(), strict=True):
        wanted = unit(x.clone())
        within = 1e-4 * wanted.std().item()
        torch.testing.assert_close(its(x.clone()), wanted, rtol=1e-4, atol=within)
        x = wanted
    assert norms(same) == LEFT.get(name, 0)


@pytest.mark.parametrize("change", [lambda n: backbones.cut(n, 4), lambda n: slimmed(n, 5)])
@torch.no_grad()
def test_a_cut_or_slim_network_answers_as_before(change):
    network = lived(change(built("mobilenetv2_050")))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(folded(network)(x), network(x), rtol=1e-4, atol=1e-5)


def slimmed(network, first: int):
    backbones.slim(network, first)
    return network


def test_the_network_is_not_touched_and_what_is_not_folded_is_shared():
    network = lived(tiny_network()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    same = folded(network)
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())
    assert all(module.training for module in network.modules())
    assert not any(p.requires_grad for p in same.parameters())
    assert not any(module.training for unit in same.units() for module in unit.modules())
    assert same.head.weight.data_ptr() == network.head.weight.data_ptr()


@torch.no_grad()
def test_what_is_not_run_is_left_as_it_is():
    network, x = lived(built("resnet18d")).train(), torch.randn(2, 3, 64, 64)
    modes = [module.training for module in network.modules()]
    same = folded(network, after=2, upto=7)
    assert [module.training for module in network.modules()] == modes
    own = [a is b for a, b in zip(network.units(), same.units(), strict=True)]
    assert own == [True] * 2 + [False] * 5 + [True] * 2
    features = network.eval().run(x, upto=2)
    wanted = network.run(features.clone(), after=2, upto=7)
    torch.testing.assert_close(same.run(features, after=2, upto=7), wanted, rtol=1e-4, atol=1e-5)


def test_a_folded_network_is_folded_already():
    same = folded(lived(tiny_network()))
    assert folded(same) is same


def test_a_convolution_that_makes_its_weights_itself_is_left_alone():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    units = [nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())]
    network = lived(backbones.Network({"stem": units}, 2, (0.5,) * 3, (0.5,) * 3))
    assert norms(folded(network)) == 1
