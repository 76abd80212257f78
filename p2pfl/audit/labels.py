"""Labels from an update alone: the last layer's part of it tells which classes were trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


def of_one(weight: Rows, bias: Rows | None) -> int:
    """The label of a gradient of one picture; always right if the gradient is exact.

    weight: (C, H) of the last layer.  bias: (C,), None if the layer has none.
    With scores z, probabilities p and label y the cross-entropy's derivative by z is p - onehot(y): of all
    classes only y's is negative (Zhao, Mopuri, Bilen, iDLG, 2020, section 3). It is the bias's gradient.
    Without a bias: the rows are that derivative times the same activations, and y's is the longest, since
    1 - p_y is the sum of all the other p.
    """
    if bias is not None:
        return int(bias.argmin())
    return int((weight * weight).sum(axis=1).argmax())


def of_several(weight: Rows, bias: Rows | None, count: int) -> list[int]:
    """`count` labels, sorted, of a batch's gradient or a longer training's update: a guess.

    After Wainakh et al., User-Level Label Leakage from Gradients in Federated Learning (2022), without its
    offset: a class with a negative sum was trained; each picture adds about as much as the sums of those
    classes, shared out over all pictures; what is left goes to the most negative.
    """
    sums = (weight.sum(axis=1) if bias is None else bias).copy()
    impact = sums[sums < 0].sum() / count * (1 + 1 / len(sums))
    labels: list[int] = []
    for label in np.flatnonzero(sums < 0)[np.argsort(sums[sums < 0], kind="stable")]:
        if len(labels) < count:
            labels.append(int(label))
            sums[label] -= impact
    while len(labels) < count:
        label = int(sums.argmin())
        labels.append(label)
        sums[label] -= impact
    return sorted(labels)
