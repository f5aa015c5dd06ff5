"""The networks of DASNet's evaluation in PyTorch: plain modules, each ReLU and pool with a name for winner rules.

Table I: MLP-3, LeNet-4, ConvNet-5. Table II: a ResNet, AlexNet and MobileNet, in the sizes of 32x32 images.
"""

from torch import Tensor, nn
from torch.nn import functional


class Mlp3(nn.Sequential):
    """784-300-100-10. Input float [N,784], output class scores [N,10]."""

    def __init__(self, classes: int = 10):
        super().__init__()
        for name, module in (
                ("fc1", nn.Linear(784, 300)), ("relu1", nn.ReLU()), ("fc2", nn.Linear(300, 100)),
                ("relu2", nn.ReLU()), ("fc3", nn.Linear(100, classes))):
            self.add_module(name, module)


class LeNet4(nn.Sequential):
    """conv 5x5x32, pool, conv 5x5x64, pool, fc 3136-1024, fc 1024-10. Input float [N,1,28,28]."""

    def __init__(self, classes: int = 10):
        super().__init__()
        for name, module in (
                ("conv1", nn.Conv2d(1, 32, 5, padding=2)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2)),
                ("conv2", nn.Conv2d(32, 64, 5, padding=2)), ("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2)),
                ("flatten", nn.Flatten()), ("fc1", nn.Linear(3136, 1024)), ("relu3", nn.ReLU()),
                ("fc2", nn.Linear(1024, classes))):
            self.add_module(name, module)


class ConvNet5(nn.Sequential):
    """conv 5x5x64, pool, conv 5x5x64, pool, fc 2304-384, 384-192, 192-10 on 24x24 crops. Input float [N,3,24,24].

    TensorFlow's CIFAR tutorial, with batch normalization, which folds into the convolutions, for its local response
    normalization.
    """

    def __init__(self, classes: int = 10):
        super().__init__()
        for name, module in (
                ("conv1", nn.Conv2d(3, 64, 5, padding=2, bias=False)), ("bn1", nn.BatchNorm2d(64)),
                ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(3, 2, 1)),
                ("conv2", nn.Conv2d(64, 64, 5, padding=2, bias=False)), ("bn2", nn.BatchNorm2d(64)),
                ("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(3, 2, 1)),
                ("flatten", nn.Flatten()), ("dropout1", nn.Dropout(0.5)), ("fc1", nn.Linear(2304, 384)),
                ("relu3", nn.ReLU()), ("fc2", nn.Linear(384, 192)), ("relu4", nn.ReLU()),
                ("fc3", nn.Linear(192, classes))):
            self.add_module(name, module)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the size changes it takes every other pixel and adds empty channels
    (option A of He et al., 2016). Names of parameters as in akamaster's pytorch_resnet_cifar10."""

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.stride, self.added = stride, (out_channels - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))
        return self.relu2(y + x)


class ResNet(nn.Module):
    """ResNet of CIFAR: 3x3x16, three stages of ``blocks`` blocks with 16, 32 and 64 channels, mean, fc.

    ``6 * blocks + 2`` layers; input float [N,3,32,32].
    """

    def __init__(self, blocks: int, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        channels = 16
        for stage, out_channels in enumerate((16, 32, 64), 1):
            parts = []
            for block in range(blocks):
                parts.append(BasicBlock(channels, out_channels, 2 if stage > 1 and block == 0 else 1))
                channels = out_channels
            self.add_module(f"layer{stage}", nn.Sequential(*parts))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))


class AlexNet(nn.Sequential):
    """AlexNet of 32x32 images, one of its two towers: 3x3 kernels, 48-128-192-192-128 channels, fc 1024-1024-43."""

    def __init__(self, classes: int = 43):
        super().__init__()
        channels = 3
        for number, (width, pooled) in enumerate(((48, True), (128, True), (192, False), (192, False), (128, True)), 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, width, 3, 1, 1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
            self.add_module(f"relu{number}", nn.ReLU())
            if pooled:
                self.add_module(f"pool{number}", nn.MaxPool2d(2))
            channels = width
        for name, module in (
                ("flatten", nn.Flatten()), ("dropout6", nn.Dropout(0.5)), ("fc6", nn.Linear(2048, 1024)),
                ("relu6", nn.ReLU()), ("dropout7", nn.Dropout(0.5)), ("fc7", nn.Linear(1024, 1024)),
                ("relu7", nn.ReLU()), ("fc8", nn.Linear(1024, classes))):
            self.add_module(name, module)


class MobileNetV1(nn.Module):
    """MobileNet v1 of width ``width`` on 32x32 images: the first convolution and the first two depthwise layers with
    stride 1 where the original halves the map."""

    BLOCKS = ((64, 1), (128, 1), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))

    def __init__(self, width: float = 0.25, classes: int = 43):
        super().__init__()
        channels = int(32 * width)
        self.stem = nn.Sequential()
        for name, module in (("conv", nn.Conv2d(3, channels, 3, 1, 1, bias=False)), ("bn", nn.BatchNorm2d(channels)),
                             ("relu", nn.ReLU())):
            self.stem.add_module(name, module)
        for number, (wide, stride) in enumerate(self.BLOCKS, 1):
            out_channels = int(wide * width)
            block = nn.Sequential()
            for name, module in (
                    ("depthwise", nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)),
                    ("bn1", nn.BatchNorm2d(channels)), ("relu1", nn.ReLU()),
                    ("pointwise", nn.Conv2d(channels, out_channels, 1, bias=False)),
                    ("bn2", nn.BatchNorm2d(out_channels)), ("relu2", nn.ReLU())):
                block.add_module(name, module)
            self.add_module(f"block{number}", block)
            channels = out_channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, len(self.BLOCKS) + 1):
            x = self.get_submodule(f"block{number}")(x)
        return self.fc(self.pool(x).flatten(1))
