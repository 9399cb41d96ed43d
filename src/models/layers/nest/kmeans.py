"""k-means clustering."""

import torch
from torch import Tensor

from src.models.layers.nest.quantizer import nearest_code

CHUNK = 2**16  # vectors whose distances to all centres are in memory at once


def kmeans(
    vectors: Tensor, num_clusters: int, seed: int = 0, iterations: int = 100
) -> tuple[Tensor, float]:
    """Cluster vectors by Lloyd's algorithm, from centres drawn by k-means++.

    k-means++ (Arthur and Vassilvitskii, 2007) draws each next centre from the vectors with
    probabilities proportional to their squared distance to the nearest centre so far. A cluster
    that gets empty is moved to the vector that is farthest from its centre.

    Args:
        vectors: [N, D], on the CPU, where the result depends on nothing but the arguments.
        num_clusters: K.
        seed: of the draws.
        iterations: after which it ends where the clusters still change.

    Returns:
        Centres [K, D], and the fraction of the variance that they explain.

    Raises:
        ValueError: there are fewer different vectors than clusters.
    """
    centres = draw_centres(vectors, num_clusters, seed)
    labels = torch.full((len(vectors),), -1)
    for _ in range(iterations):
        previous, labels = labels, nearest_centres(vectors, centres)
        if torch.equal(previous, labels):
            break
        counts = torch.bincount(labels, minlength=num_clusters)
        sums = torch.zeros(centres.shape, dtype=torch.float64)
        sums.index_add_(0, labels, vectors.double())
        empty = counts == 0
        farthest = squared_distances(vectors, centres, labels).topk(int(empty.sum())).indices
        centres = (sums / counts.clamp(min=1).unsqueeze(1)).to(vectors.dtype)
        centres[empty] = vectors[farthest]
    labels = nearest_centres(vectors, centres)
    within = squared_distances(vectors, centres, labels).double().mean()
    total = (vectors - vectors.mean(0)).square().sum(1).double().mean()
    return centres, float(1 - within / total)


def draw_centres(vectors: Tensor, num_clusters: int, seed: int) -> Tensor:
    """First centres [K, D] by k-means++.

    Raises:
        ValueError: there are fewer different vectors than clusters.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = torch.ones(len(vectors))
    centres: list[Tensor] = []
    for _ in range(num_clusters):
        ends = distances.double().cumsum(0)
        if not len(ends) or ends[-1] == 0:
            raise ValueError(f"{num_clusters} clusters of {len(centres)} different vectors.")
        position = torch.rand((), generator=generator, dtype=torch.float64) * ends[-1]
        centres.append(vectors[torch.searchsorted(ends, position, right=True)])
        new = (vectors - centres[-1]).square().sum(1)
        distances = new if len(centres) == 1 else torch.minimum(distances, new)
    return torch.stack(centres)


def nearest_centres(vectors: Tensor, centres: Tensor) -> Tensor:
    """Index of the centre nearest to each vector: [N]."""
    return torch.cat([nearest_code(chunk, centres) for chunk in vectors.split(CHUNK)])


def squared_distances(vectors: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of each vector to its centre: [N]."""
    return (vectors - centres[labels]).square().sum(1)
