"""Networks that answer by rule, in CoarseNet's place."""

from torch import Tensor, nn

from facerecon.coarsenet import CoarseNetConfig, Estimate


class StandIn(nn.Module):
    """A CoarseNet without displacements, whose next r is `answer(maps, r)`."""

    config = CoarseNetConfig(points=0, both_sides=False)

    def answer(self, maps: Tensor, r: Tensor) -> Tensor:
        raise NotImplementedError

    def points_of(self, model: nn.Module) -> None:
        return None

    def forward(self, maps: Tensor, r: Tensor, points: None = None) -> Estimate:
        answer = self.answer(maps, r)
        return Estimate(answer, answer)
