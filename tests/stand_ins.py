"""Networks that answer by rule, in CoarseNet's place."""

from torch import Tensor

from facerecon.coarsenet import CoarseEstimate, CoarseNet, CoarseNetConfig
from facerecon.morphable_model import MorphableModel


class StandIn(CoarseNet):
    """A CoarseNet without displacements, whose next r is `answer(maps, r)`."""

    def __init__(self) -> None:
        tiny = CoarseNetConfig(width=1, squeeze=1, grid=1, points=0, both_sides=False)
        super().__init__(284, tiny)

    def answer(self, maps: Tensor, r: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, maps: Tensor, r: Tensor, model: MorphableModel) -> CoarseEstimate:
        answer = self.answer(maps, r)
        return CoarseEstimate(answer, answer)
