"""A layer in its network: its inputs, sizes and numbers, all known; its tensors, drawn when first asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.checks import JobError, check
from golden.conv_tensors import ConvTensors
from golden.geometry import NO_PADDING, ConvGeometry, PoolGeometry
from golden.job import Job, Ranking
from golden.layers import LayerDescription, TensorSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A layer bound in a network.

    ``layer`` is its description, ``inputs`` the names of its inputs and ``sources`` what they are, ``sizes`` its
    windows (None for mean, add and concat), ``output`` what comes out, ``draw`` the tensors of a convolution.
    Only :attr:`tensors`, :meth:`job` and :attr:`weight` to :attr:`shift` touch weights.
    """

    layer: LayerDescription
    inputs: tuple[str, ...]
    sources: tuple[TensorSpec, ...]
    sizes: ConvGeometry | PoolGeometry | None
    output: TensorSpec
    ranking: Ranking | None
    activation_min: int
    activation_max: int
    draw: Callable[[], ConvTensors] | None = None

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def op(self) -> str:
        """ "conv", "max_pool", "average_pool", "mean", "add" or "concat"."""
        return self.layer.op

    @property
    def input_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of each input."""
        return tuple(source.shape for source in self.sources)

    @property
    def input_zero_point(self) -> int:
        """The zero point of the first input."""
        return self.sources[0].zero_point

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(O, OH, OW)."""
        return self.output.shape

    @property
    def output_scale(self) -> float:
        return self.output.scale

    @property
    def output_zero_point(self) -> int:
        return self.output.zero_point

    @property
    def kernel(self) -> tuple[int, int]:
        """(KH, KW) of a convolution or pool, the whole map of a mean, (1, 1) otherwise."""
        if self.sizes is not None:
            return self.sizes.kernel
        return self.sources[0].shape[1:] if self.op == "mean" else (1, 1)

    @property
    def stride(self) -> tuple[int, int]:
        """(vertical, horizontal); the kernel's size for a mean."""
        return self.kernel if self.sizes is None else self.sizes.stride

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right)."""
        return NO_PADDING if self.sizes is None else self.sizes.padding

    @property
    def groups(self) -> int:
        """The groups of a convolution, 1 otherwise."""
        return getattr(self.sizes, "groups", 1)

    @property
    def pool(self) -> tuple[int, int, int, int] | None:
        """The (KH, KW, SH, SW) of a convolution's max-pool, or None."""
        return getattr(self.sizes, "pool", None)

    @property
    def pool_padding(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) of a convolution's max-pool."""
        return getattr(self.sizes, "pool_padding", NO_PADDING)

    @property
    def macs(self) -> int:
        """Multiplications of a dense convolution, those with padding included; 0 of other operations."""
        return self.sizes.macs if self.op == "conv" else 0

    @property
    def parameters(self) -> int:
        """Weights and biases of a convolution, 0 of other operations."""
        if self.op != "conv":
            return 0
        return int(np.prod(self.sizes.weight_shape)) + self.sizes.out_channels

    @cached_property
    def tensors(self) -> ConvTensors:
        """A convolution's tensors, drawn now where the network has none. Raises JobError for other operations."""
        if self.op != "conv":
            raise JobError(f"layer {self.name}: weight: expected a conv, which has tensors, got {self.op}")
        return self.layer.tensors if self.draw is None else self.draw()

    @property
    def weight(self) -> np.ndarray:
        """int8 [O,C/groups,KH,KW]."""
        return self.tensors.weight

    @property
    def bias(self) -> np.ndarray:
        """int32 [O]."""
        return self.tensors.bias

    @property
    def multiplier(self) -> np.ndarray:
        """int32 [O]."""
        return self.tensors.multiplier

    @property
    def shift(self) -> np.ndarray:
        """int32 [O]."""
        return self.tensors.shift

    def job(self, *maps: np.ndarray, masks: Sequence[np.ndarray | None] | None = None, ranked: bool = True) -> Job:
        """This layer's job for its inputs int8 [C,H,W] and their masks uint8 [C] or None (None: no masks at all).

        ``ranked=False`` drops the ranking. Raises JobError, always for a concat.
        """
        masks = (None,) * len(maps) if masks is None else masks
        check(len(maps) == len(self.sources) == len(masks), f"layer {self.name}: inputs",
              f"{len(self.sources)} maps and as many masks", f"{len(maps)} and {len(masks)}")
        return self.layer.make_job(self, maps, masks, self.ranking if ranked else None)
