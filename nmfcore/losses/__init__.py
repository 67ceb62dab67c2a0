"""What a fit minimises: losses, penalties, their accounts and the KKT residual."""

from nmfcore.losses.choose import make
from nmfcore.losses.divergence import Divergence
from nmfcore.losses.frobenius import Frobenius
from nmfcore.losses.protocol import Loss, RangeError

__all__ = ["Divergence", "Frobenius", "Loss", "RangeError", "make"]
