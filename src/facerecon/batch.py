"""Batches of several tensors that belong together."""

from typing import TypeVar

import torch

_Batch = TypeVar("_Batch", bound=tuple)


def rows(batch: _Batch, chosen: slice | torch.Tensor) -> _Batch:
    """Some images of a batch: the same rows of every tensor of a NamedTuple, nested ones too.

    A field that is None stays so.
    """

    def part(field: object) -> object:
        if field is None:
            return None
        return rows(field, chosen) if isinstance(field, tuple) else field[chosen]

    return type(batch)(*map(part, batch))


def joined(parts: list[_Batch]) -> _Batch:
    """One batch of several: the tensors of equal NamedTuples concatenated, nested ones too."""
    if len(parts) == 1:
        return parts[0]
    return type(parts[0])(
        *(
            joined(list(fields)) if isinstance(fields[0], tuple) else torch.cat(fields)
            for fields in zip(*parts, strict=True)
        )
    )
