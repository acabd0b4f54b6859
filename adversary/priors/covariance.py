"""The covariance of X-rays from however few of them: samples shrunk to a stationary field."""

from __future__ import annotations

import numpy as np
import scipy
import torch

from adversary.common.seeding import generator

QUANTISATION = 1 / (12 * 255**2)
"""Variance of rounding a pixel to 8 bits: no pixel of a public X-ray is known better."""

SHRINKAGE = np.linspace(0.01, 0.99, 99)
"""Weights of the stationary model that are tried on held-out images."""


def shrunk_covariance(
    images: np.ndarray, rank: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean m and covariance F^T F + diag(d) of the distribution of images.

    The covariance is (1 - a) S + a T. S is the sample covariance. T is that of a stationary
    isotropic field with mirrored borders, which the cosine transform diagonalises: its spectrum
    is the mean power of the centred images over each ring of frequencies, so that four images
    tell it well. The weight a maximises the likelihood of every fourth image under what the
    others say; it is 1 where there are fewer than four. The largest ``rank`` principal components
    are kept and the rest of each pixel's variance goes into the diagonal; at ``rank >= n`` nothing
    is lost. A single image is the mean itself and deviates from its own grey level.

    Parameters
    ----------
    images : ndarray
        (N, C, H, W) in float64, N >= 1.
    rank : int
        Principal components to keep, >= 1.
    seed : int
        Of the search for the components where ``rank < n = C H W``.

    Returns
    -------
    mean : ndarray
        m, (C, H, W).
    factor : ndarray
        F, (k, n) with k <= rank.
    diagonal : ndarray
        d, (n,), at least :data:`QUANTISATION`.

    References
    ----------
    Ledoit and Wolf 2004 (shrinkage); Halko, Martinsson and Tropp 2011 (components).
    """
    mean, spectrum, centred = _stationary(images)
    covariance = _Covariance(spectrum, centred, _cross_validated_weight(images))
    values, vectors = covariance.principal(rank, seed)
    factor = np.sqrt(values)[:, None] * vectors
    rest = covariance.diagonal() - np.square(factor).sum(axis=0)
    return mean, factor, rest.clip(min=QUANTISATION)


class _Covariance:
    """(1 - a) S + a T of centred images, as an operator on rows of flat images."""

    def __init__(self, spectrum: np.ndarray, centred: np.ndarray, weight: float) -> None:
        self.shape = spectrum.shape
        self.spectrum = weight * spectrum
        degrees = max(len(centred) - 1, 1)
        self.samples = np.sqrt((1 - weight) / degrees) * centred.reshape(len(centred), -1)

    def __matmul__(self, rows: np.ndarray) -> np.ndarray:
        images = rows.reshape(-1, *self.shape)
        stationary = _inverse_cosine(self.spectrum * _cosine(images)).reshape(rows.shape)
        return stationary + (rows @ self.samples.T) @ self.samples

    def diagonal(self) -> np.ndarray:
        """Return the variance of every pixel."""
        stationary = self.spectrum
        for axis, size in enumerate(self.shape):  # sum over f of lambda_f q_f(pixel)^2
            squares = np.square(scipy.fft.dct(np.eye(size), axis=0, norm="ortho"))
            stationary = np.moveaxis(np.tensordot(squares, stationary, (0, axis)), 0, axis)
        return stationary.ravel() + np.square(self.samples).sum(axis=0)

    def principal(self, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest eigenvalues (k,) and their eigenvectors (k, n)."""
        n = self.spectrum.size
        if rank >= n:
            values, vectors = np.linalg.eigh(self @ np.eye(n))
            return values.clip(min=0), vectors.T
        rows = torch.randn(min(rank + 32, n), n, generator=generator(seed, "components"))
        basis = rows.double().numpy()
        for _ in range(3):  # subspace iteration
            basis = np.linalg.qr((self @ basis).T)[0].T
        values, turn = np.linalg.eigh(basis @ (self @ basis).T)
        return values[-rank:].clip(min=0), turn.T[-rank:] @ basis


def _cosine(images: np.ndarray) -> np.ndarray:
    return scipy.fft.dctn(images, axes=(-3, -2, -1), norm="ortho")


def _inverse_cosine(images: np.ndarray) -> np.ndarray:
    return scipy.fft.idctn(images, axes=(-3, -2, -1), norm="ortho")


def _stationary(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean image, the isotropic spectrum (C, H, W) and the centred images.

    The spectrum is that of a new image about this mean, hence 1 + 1/N times the field's own.
    """
    count = len(images)
    mean = images.mean(axis=0)
    centred = images - (mean if count > 1 else mean.mean())
    power = np.square(_cosine(centred)).sum(axis=0) / max(count - 1, 1) * (1 + 1 / count)
    height, width = power.shape[1:]
    longest = max(height, width)
    radius = np.hypot(
        np.arange(height)[:, None] * (longest / height), np.arange(width) * (longest / width)
    )
    rings = radius.round().astype(int).ravel()
    members = np.bincount(rings).clip(min=1)
    spectrum = np.stack(
        [(np.bincount(rings, p.ravel()) / members)[rings].reshape(height, width) for p in power]
    )
    return mean, spectrum.clip(min=QUANTISATION), centred


def _cross_validated_weight(images: np.ndarray) -> float:
    """Return the weight of the stationary model under which held-out images are likeliest."""
    if len(images) < 4:
        return 1.0
    held_out = np.arange(len(images)) % 4 == 0
    mean, spectrum, centred = _stationary(images[~held_out])
    scale = np.sqrt(spectrum)  # in these units T is the identity
    seen = (_cosine(centred) / scale).reshape(len(centred), -1)
    new = (_cosine(images[held_out] - mean) / scale).reshape(int(held_out.sum()), -1)
    gram = seen @ seen.T if len(seen) <= seen.shape[1] else seen.T @ seen
    values, vectors = np.linalg.eigh(gram / (len(seen) - 1))
    kept = values > values.max() * 1e-10
    values, vectors = values[kept], vectors[:, kept]
    basis = vectors
    if len(seen) <= seen.shape[1]:
        basis = seen.T @ vectors / np.sqrt(values * (len(seen) - 1))
    inside = np.square(new @ basis).mean(axis=0)
    outside = np.square(new).sum(axis=1).mean() - inside.sum()
    n = spectrum.size

    def surprise(a: float) -> float:
        within = a + (1 - a) * values
        return (
            np.log(within).sum()
            + (n - len(values)) * np.log(a)
            + (inside / within).sum()
            + outside / a
        )

    return float(min(SHRINKAGE, key=surprise))
