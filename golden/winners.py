"""Winners-take-all dropout (DASNet): per input, only the top-ranking channels take part in the next layer."""

import torch
from torch import nn


class WinnersTakeAll(nn.Module):
    """Pass the highest-scoring channels of each input and set the others to zero; no parameters.

    A channel's score is the maximum of its map, or the value of a neuron (DASNet Eq. 4). Of C channels the
    ``max(1, round(rate * C))`` highest win, the lower index first among equals. The mask is a constant of the backward
    pass, so that gradients flow through winners only. While :attr:`dense` is true the input passes unchanged.

    Shape: [N,C,H,W] or [N,C], the output like the input. Raises ValueError for a rate outside (0, 1].
    """

    def __init__(self, *, rate: float):
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate: expected 0 < rate <= 1, not {rate}")
        self.rate = rate
        self.dense = False

    def count(self, channels: int) -> int:
        """The number of winners among ``channels``."""
        return max(1, round(self.rate * channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.dense:
            return x
        scores = x.detach().flatten(2).amax(2) if x.ndim == 4 else x.detach()
        mask = topk_mask(scores, self.count(x.shape[1]))
        return x * mask.reshape(mask.shape + (1,) * (x.ndim - 2))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def topk_mask(scores: torch.Tensor, count: int) -> torch.Tensor:
    """bool [N,C]: the ``count`` highest of each row of ``scores`` [N,C], the lower index first among equals."""
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, :count], True)


def set_dense(network: nn.Module, dense: bool) -> None:
    """Switch every :class:`WinnersTakeAll` inside ``network`` off (``dense``) or on."""
    for module in network.modules():
        if isinstance(module, WinnersTakeAll):
            module.dense = dense
