"""Who sent how much to whom. Of many nodes it is kept for blocks of them, so that memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.int64]

# Up to this many nodes each is kept on its own; of more, at most BLOCKS blocks of equal size.
EXACT = 200
BLOCKS = 40


@dataclass
class Links:
    """(B, B), from the row's block to the column's. bytes: of bodies.  models: exchanges of models.

    block: nodes in a block; 1 keeps every node on its own.
    """

    nodes: int
    block: int = field(init=False)
    bytes: Matrix = field(init=False)
    models: Matrix = field(init=False)

    def __post_init__(self) -> None:
        self.block = 1 if self.nodes <= EXACT else -(-self.nodes // BLOCKS)
        count = -(-self.nodes // self.block)
        self.bytes = np.zeros((count, count), np.int64)
        self.models = np.zeros((count, count), np.int64)

    def add(self, sender: int, receiver: int, size: int, *, model: bool = False) -> None:
        row, column = sender // self.block, receiver // self.block
        self.bytes[row, column] += size
        self.models[row, column] += model

    def members(self, block: int) -> range:
        """The nodes of a block."""
        return range(block * self.block, min(self.nodes, (block + 1) * self.block))

    def name(self, block: int) -> str:
        """`7`, or `25-49`."""
        nodes = self.members(block)
        return str(nodes[0]) if len(nodes) == 1 else f"{nodes[0]}-{nodes[-1]}"
