"""Batches of several tensors that belong together."""

from typing import TypeVar

import torch

_Batch = TypeVar("_Batch", bound=tuple)


def rows(batch: _Batch, chosen: slice | torch.Tensor) -> _Batch:
    """Some images of a batch: the same rows of every tensor of a NamedTuple, nested ones too."""
    return type(batch)(
        *(rows(field, chosen) if isinstance(field, tuple) else field[chosen] for field in batch)
    )
