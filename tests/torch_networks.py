"""Networks of the field as people write them in PyTorch, of any width, and akamaster's ResNet-20 of CIFAR-10."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_norm(channels: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *,
              activation: type[nn.Module] | None = nn.ReLU) -> nn.Sequential:
    """A "same" convolution with batch normalization, as torchvision's Conv2dNormActivation."""
    parts = [nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
             nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, *([] if activation is None else [activation()]))


class Residual(nn.Module):
    """torchvision's BasicBlock, with ReLU in place, or Bottleneck; one ReLU module, a projection for another size."""

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        widths = [channels, *[width] * (len(sizes) - 1), outputs]
        for number, (kernel, step) in enumerate(sizes, 1):
            self.add_module(f"conv{number}", nn.Conv2d(*widths[number - 1:number + 1], kernel, step, kernel // 2,
                                                       bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(widths[number]))
        self.count = len(sizes)
        self.relu = nn.ReLU(inplace=not bottleneck)
        self.downsample = None
        if stride > 1 or channels != outputs:
            self.downsample = conv_norm(channels, outputs, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number in range(1, self.count + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self.count:
                y = self.relu(y)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """torchvision's ResNet of ImageNet."""

    def __init__(self, blocks: tuple[int, ...], width: int, *, bottleneck: bool = False, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=not bottleneck)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, channels = [], width
        for stage, count in enumerate(blocks):
            parts = []
            for number in range(count):
                parts.append(Residual(channels, width << stage, 2 if stage and not number else 1,
                                      bottleneck=bottleneck))
                channels = (width << stage) * (4 if bottleneck else 1)
            stages.append(nn.Sequential(*parts))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    """MobileNet v2's block."""

    def __init__(self, channels: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        expand = [conv_norm(channels, wide, 1, activation=nn.ReLU6)] if expansion > 1 else []
        self.conv = nn.Sequential(*expand, conv_norm(wide, wide, 3, stride, wide, activation=nn.ReLU6),
                                  conv_norm(wide, outputs, 1, activation=None))
        self.added = stride == 1 and channels == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.added else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet v2 of a width in eighths."""

    def __init__(self, eighths: int, classes: int = 10):
        super().__init__()
        channels = 4 * eighths
        parts: list[nn.Module] = [conv_norm(3, channels, 3, 2, activation=nn.ReLU6)]
        for expansion, outputs, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                                  (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            for number in range(count):
                parts.append(InvertedResidual(channels, outputs * eighths // 8, stride if not number else 1, expansion))
                channels = outputs * eighths // 8
        self.features = nn.Sequential(*parts, conv_norm(channels, 160 * eighths, 1, activation=nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(160 * eighths, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), (1, 1)).reshape(x.shape[0], -1))


def mobilenet_v1(width: int, classes: int = 10) -> nn.Sequential:
    """MobileNet v1, ``width`` channels first; for inputs of 32x32 and more."""
    parts, channels = [conv_norm(3, width, 3, 2, activation=nn.ReLU6)], width
    for outputs, stride in ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1)):
        parts += [conv_norm(channels, channels, 3, stride, channels, activation=nn.ReLU6),
                  conv_norm(channels, width * outputs, 1, activation=nn.ReLU6)]
        channels = width * outputs
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes), nn.Softmax(-1))


def vgg16(width: int, classes: int = 10) -> nn.Sequential:
    """VGG-16, ``width`` channels first and ``64 * width`` neurons; for inputs of 32x32."""
    parts: list[nn.Module] = []
    channels = 3
    for count, outputs in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            parts += [nn.Conv2d(channels, width * outputs, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width * outputs
        parts.append(nn.MaxPool2d(2, 2))
    classifier = [nn.Linear(channels, 64 * width), nn.ReLU(True), nn.Dropout(), nn.Linear(64 * width, 64 * width),
                  nn.ReLU(True), nn.Dropout(), nn.Linear(64 * width, classes)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), *classifier)


class AlexNet(nn.Module):
    """torchvision's AlexNet with ``width`` sixty-fourths of the channels; for inputs of 127x127."""

    def __init__(self, width: int, classes: int = 10):
        super().__init__()
        wide = [width * size for size in (1, 3, 6, 4, 4)]
        self.features = nn.Sequential(
            nn.Conv2d(3, wide[0], 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(wide[0], wide[1], 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(wide[1], wide[2], 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(wide[2], wide[3], 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(wide[3], wide[4], 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(wide[4] * 9, 64 * width), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(64 * width, 64 * width), nn.ReLU(inplace=True), nn.Linear(64 * width, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


# akamaster's pytorch_resnet_cifar10


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut of a new size has no weights (option A)."""

    def __init__(self, channels: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != outputs:
            added = outputs // 4
            self.shortcut = Lambda(lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, added, added), "constant",
                                                            0))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return functional.relu(out)


class CifarResNet(nn.Module):
    """ResNet-20 with 3 blocks in each stage. The parameters' names are those of the published weights."""

    def __init__(self, blocks: int = 3, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(channels: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(CifarBlock(channels, outputs, stride),
                             *(CifarBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = functional.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))
