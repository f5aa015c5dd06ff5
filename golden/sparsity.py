"""Static sparsity of weights in the blocks that the engine reads and could skip."""

import numpy as np

from golden.checks import check, check_integer


def zero_blocks(weight: np.ndarray, columns: int, *, groups: int = 1) -> np.ndarray:
    """Which blocks of a weight int8 [O,C/groups,KH,KW] are all zero; bool [output groups, C/groups].

    A block holds one input channel's taps for ``columns`` consecutive output channels (fewer in the last one). The
    blocks of a grouped convolution do not reach over its groups: each has ceil(O/groups / columns) of them, group by
    group. Raises JobError.
    """
    columns = check_integer("columns", columns, 1, 2**31 - 1)
    outputs, depth = weight.shape[:2]
    check(outputs % groups == 0, "groups", f"a divisor of {outputs} output channels", groups)
    width = outputs // groups
    used = weight.reshape(groups, width, depth, -1).any(3)
    starts = np.arange(0, width, columns)
    return ~np.logical_or.reduceat(used, starts, axis=1).reshape(-1, depth)
