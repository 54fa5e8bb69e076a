"""What CAVIA is compared with that has no inner loop: kriging."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.worlds.glyphs.completion import Completion


class Kriging(nn.Module):
    """Simple kriging: the mean of a Gaussian process, given some of its values.

    ``mean + k(x, x_given) (k(x_given, x_given) + noise I)^-1 (y_given - mean)``, with
    the Matérn covariance of smoothness 3/2, ``k(d) = (1 + sqrt(3) d / l) exp(-sqrt(3) d
    / l)`` (Rasmussen and Williams 2006, eq. 2.25 and 4.17). Length l, noise and mean are
    the same for all images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_length = nn.Parameter(torch.tensor(-1.0))
        self.log_noise = nn.Parameter(torch.tensor(-3.0))
        self.mean = nn.Parameter(torch.tensor(0.2))

    def covariance(
        self, one: Float[Tensor, "T P 2"], other: Float[Tensor, "T K 2"]
    ) -> Float[Tensor, "T P K"]:
        """Covariance of the ink at all pairs of points."""
        distance = 3**0.5 * torch.cdist(one, other) / self.log_length.exp()
        return (1 + distance) * (-distance).exp()

    def forward(self, tasks: Completion) -> Float[Tensor, "T P 1"]:
        """All pixels, from those that are given."""
        with torch.autocast(tasks.query_x.device.type, enabled=False):
            given = self.covariance(tasks.support_x, tasks.support_x)
            given = given + self.log_noise.exp() * torch.eye(
                given.shape[1], device=given.device
            )
            weights = torch.linalg.solve(given, tasks.support_y - self.mean)
            predicted: Tensor = self.covariance(tasks.query_x, tasks.support_x) @ weights
            return self.mean + predicted
