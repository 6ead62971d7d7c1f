"""Linear regression with a penalty on the weights, in closed form: one aspect's head on a frozen backbone."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor


def ridge(
    features: Float[Tensor, "N H"], labels: Float[Tensor, " N"], present: Bool[Tensor, " N"], *, alpha: float
) -> tuple[Float64[Tensor, " H"], Float64[Tensor, ""]]:
    """(w, b) that minimise Σ_n (y_n − w·x_n − b)² + α ‖w‖² over the rows that are present   (N3.7).

    b is not penalised: w solves (XᵀX + αI) w = Xᵀy for centred X and y, and b = ȳ − w·x̄. float64 whatever comes in,
    without gradient. What absent rows hold is not read. No row present: zeros. α must be positive: ValueError.
    """
    if not alpha > 0.0:
        raise ValueError(f"ridge: alpha must be positive, not {alpha}")
    x, y = features.detach()[present].double(), labels.detach()[present].double()
    if x.shape[0] == 0:
        return x.new_zeros(x.shape[1]), x.new_zeros(())
    mean, level = x.mean(dim=0), y.mean()
    centred = x - mean
    penalty = alpha * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ (y - level))
    return weights, level - weights @ mean
