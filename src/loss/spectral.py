"""Losses of magnitude spectrograms."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.loss.pit import (
    apply_permutation,
    best_permutation,
    check_number_of_sources,
    pairwise_loss,
)
from src.utils.lengths import padding_mask, without_padding
from src.utils.options import check_whole, refuse

LOWEST = 1e-7  # power of a bin, below which it counts as silent


class MultiResolutionStft(nn.Module):
    """Spectral convergence and log magnitude at several resolutions.

    Yamamoto et al., "Parallel WaveGAN" (arXiv 1910.11480, equations 3 to 6): with magnitudes S of
    the source and E of the estimate,

        |S - E|_F / |S|_F + mean |log S - log E|,

    averaged over resolutions, sources and items. Each signal counts over its own length, and silent
    sources, which have no spectral convergence, are left out.

    Args:
        fft_sizes: size of the Fourier transform at each resolution; the published ones are 1024,
            2048 and 512 at 24 kHz.
        hop_lengths: distance between frames in samples; published: 120, 240 and 50.
        win_lengths: size of the Hann window in samples, at most that of the Fourier transform;
            published: 600, 1200 and 240.

    Raises:
        ValueError: a list is empty or of another length, or a size is out of its range.
    """

    def __init__(
        self, fft_sizes: Sequence[int], hop_lengths: Sequence[int], win_lengths: Sequence[int]
    ):
        super().__init__()
        for name, sizes in (
            ("fft_sizes", fft_sizes),
            ("hop_lengths", hop_lengths),
            ("win_lengths", win_lengths),
        ):
            if not isinstance(sizes, Sequence) or not sizes or len(sizes) != len(fft_sizes):
                refuse(f"MultiResolutionStft, {name}", sizes, "a number for each resolution")
        for n_fft, hop, window in zip(fft_sizes, hop_lengths, win_lengths, strict=True):
            check_whole("MultiResolutionStft, fft_sizes", n_fft)
            check_whole("MultiResolutionStft, hop_lengths", hop)
            check_whole("MultiResolutionStft, win_lengths", window, high=n_fft)
        self.sizes = list(zip(fft_sizes, hop_lengths, win_lengths, strict=True))

    def forward(
        self,
        estimates: Float[Tensor, "B N T"],  # N: S, which is checked
        sources: Float[Tensor, "B S T"],
        sources_length: Int[Tensor, " B"],
        audio: Float[Tensor, "B T"],
        permutation: Int[Tensor, "B S"] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Spectral loss of a batch.

        Args:
            estimates: [B, S, T], in any order without `permutation`.
            sources: references [B, S, T].
            sources_length: [B], in samples.
            audio: mixtures [B, T].
            permutation: by which the estimates have been put in the order of the sources; None
                finds that of the highest SI-SDR.

        Returns:
            `loss`, the mean over the sources that aren't silent; 0 if all are.

        Raises:
            ValueError: there are more or fewer estimates than sources.
        """
        check_number_of_sources(estimates, sources)
        if permutation is None and sources.shape[1] > 1:
            pairs = pairwise_loss(estimates.detach(), sources, audio, sources_length)
            estimates = apply_permutation(estimates, best_permutation(pairs))
        estimates = without_padding(estimates, sources_length)
        sources = without_padding(sources, sources_length)
        losses = torch.stack(
            [self.distance(estimates, sources, sources_length, *sizes) for sizes in self.sizes]
        ).mean(0)
        counted = (sources.abs().amax(2) > 0).to(losses.dtype)
        return {"loss": (losses * counted).sum() / counted.sum().clamp(min=1)}

    def distance(
        self, estimates: Tensor, sources: Tensor, length: Tensor, n_fft: int, hop: int, window: int
    ) -> Tensor:
        """Spectral convergence plus log magnitude at one resolution, [B, S].

        Args:
            estimates, sources: [B, S, T], zero beyond their lengths.
            length: [B], in samples.
            n_fft: size of the Fourier transform.
            hop: distance between frames in samples.
            window: size of the window in samples.
        """
        estimated, wanted = (
            magnitudes(signal, n_fft, hop, window) for signal in (estimates, sources)
        )
        frames = (length + n_fft // 2 * 2 - n_fft) // hop + 1
        beyond = padding_mask(frames, wanted.shape[3])[:, None, None]
        estimated, wanted = (one.masked_fill(beyond, LOWEST**0.5) for one in (estimated, wanted))
        error = torch.linalg.vector_norm(wanted - estimated, dim=(2, 3))
        convergence = error / torch.linalg.vector_norm(wanted.masked_fill(beyond, 0.0), dim=(2, 3))
        logarithms = (wanted.log() - estimated.log()).abs().sum((2, 3))
        return convergence + logarithms / (wanted.shape[2] * frames)[:, None]


def magnitudes(signals: Tensor, n_fft: int, hop: int, window: int) -> Tensor:
    """Magnitude spectrograms [B, S, F, frames] of signals [B, S, T], of which the ends are zero.

    Frames are centred and the ends are padded with zeros, so that the frames of a signal don't
    depend on the padding of the batch.
    """
    spectrum = torch.stft(
        signals.flatten(0, 1),
        n_fft,
        hop,
        window,
        torch.hann_window(window, device=signals.device),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=LOWEST).sqrt().unflatten(0, signals.shape[:2])
