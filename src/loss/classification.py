"""Loss of the classification of utterances."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class ClassificationLoss(nn.Module):
    """Cross-entropy of the classes of utterances."""

    def forward(
        self, class_logits: Float[Tensor, "B C"], class_id: Int[Tensor, " B"], **_
    ) -> dict[str, Tensor]:
        """Mean cross-entropy of a batch, in nats.

        Args:
            class_logits: [B, C].
            class_id: [B].

        Returns:
            `loss`.
        """
        return {"loss": F.cross_entropy(class_logits.float(), class_id)}
