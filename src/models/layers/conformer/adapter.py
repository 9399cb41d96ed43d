"""Adapters: small modules beside a pretrained network (Houlsby et al., arXiv 1902.00751)."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.annotations import check_types
from src.utils.options import check_choice, check_drop_probabilities, check_whole, refuse

OPTIONS = {"dim": int, "norm_position": str, "dropout": float, "enabled": bool}


class LinearAdapter(nn.Module):
    """Layer norm, linear map to a few dimensions, SiLU, linear map back.

    At first its output is zero, so that it changes nothing.

    Args:
        d_model: size of the vectors.
        dim: size of the hidden layer.
        norm_position: `pre`, or `post` for the norm after the second linear map.
        dropout: dropout probability of the output.

    Raises:
        ValueError: an option is outside of these values.
    """

    def __init__(self, d_model: int, dim: int, norm_position: str = "pre", dropout: float = 0.0):
        super().__init__()
        check_whole("LinearAdapter.dim", dim)
        check_choice("LinearAdapter.norm_position", norm_position, ("pre", "post"))
        check_drop_probabilities("LinearAdapter", dropout=dropout)
        self.norm_position, self.dropout = norm_position, dropout
        self.norm = nn.LayerNorm(d_model)
        self.down = nn.Linear(d_model, dim, bias=False)
        self.up = nn.Linear(dim, d_model, bias=False)
        last = self.norm if norm_position == "post" else self.up
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to what is added to it, [..., D]."""
        x = self.norm(x) if self.norm_position == "pre" else x
        x = self.up(F.silu(self.down(x)))
        x = self.norm(x) if self.norm_position == "post" else x
        return F.dropout(x, self.dropout, self.training)


class Adapters(nn.ModuleDict):
    """Named adapters, each a list with one module for every block of an encoder.

    Args:
        d_model: size of the vectors.
        num_layers: number of blocks.
        options: name -> options of `LinearAdapter`, and whether the adapter is `enabled`.

    Raises:
        ValueError: an option is unknown or has a bad value.
    """

    def __init__(self, d_model: int, num_layers: int, options: Mapping[str, Mapping[str, Any]]):
        super().__init__()
        self.enabled = []
        for name, values in options.items():
            place = f"ConformerEncoder.adapters.{name}"
            if not isinstance(values, Mapping) or "dim" not in values:
                refuse(place, values, "a mapping with dim")
            check_types(place, OPTIONS, values)
            own = {key: value for key, value in values.items() if key != "enabled"}
            self[name] = nn.ModuleList(LinearAdapter(d_model, **own) for _ in range(num_layers))
            if values.get("enabled", True):
                self.enabled.append(name)

    def forward(self, x: Tensor, layer: int) -> Tensor:
        """Add the outputs of the enabled adapters of a block, one after the other, to [B, T, D]."""
        for name in self.enabled:
            x = x + self[name][layer](x)  # type: ignore[index]
        return x
