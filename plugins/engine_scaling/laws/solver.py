"""Minimises the Huber loss of the logarithms of losses, for many laws at once.

Hoffmann et al. 2022, section 3.3: residuals of log-sum-exp, δ = 1e-3, from many starts. Here all starts
and all resampled sets of points take each step together, as arrays.

Shapes: S fits, P points, K free constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_scaling.laws.form import ABSENT, Array, Form

DELTA = 1e-3
"""Residual of ln L up to which the loss is quadratic."""
_EXPONENTS = np.geomspace(0.05, 1.0, 6)
_PARTS = ((0.2, 0.2, 0.6), (0.1, 0.4, 0.5), (0.4, 0.1, 0.5))
"""Shares of the terms of N, of D and of E in the loss of a typical point, at a start."""
_FINALISTS = 6
"""Starts that are followed to the end."""
_ROUGH, _LONG = 12, 60
"""Steps of the first look at all starts, and of the finalists at most."""
_SETTLED = 1e-11
"""Relative gain of a step below which a fit has settled."""


@dataclass(frozen=True, slots=True)
class Data:
    """Points to fit: ``x`` = ln N, ``y`` = ln D, ``z`` = ln L and their ``weight``, each of shape
    ``(S, P)`` or ``(1, P)``."""

    x: Array
    y: Array
    z: Array
    weight: Array

    def rows(self, which: Array) -> Data:
        """The sets of points with these numbers, where there is more than one."""
        return Data(*(a if len(a) == 1 else a[which] for a in self.arrays))

    @property
    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """All four."""
        return self.x, self.y, self.z, self.weight

    @property
    def sets(self) -> int:
        """The number of sets of points."""
        return max(map(len, self.arrays))


def fit(data: Data, form: Form, near: Array | None = None) -> tuple[Array, Array]:
    """The constants ``(S, 5)`` of least Huber loss for each set of points, and that loss ``(S,)``.

    ``near``: constants to start from instead of a grid of starts: ``(N, 5)`` for every set of points,
    or ``(S, N, 5)`` with each set's own.
    """
    centre = Data(data.x - (mx := data.x.mean()), data.y - (my := data.y.mean()), *data.arrays[2:])
    shift = np.array([mx, my])
    starts = _grid(centre, form) if near is None else _free(_moved(near, -shift), form)
    sets, many = data.sets, starts.shape[-2]
    which = np.repeat(np.arange(sets), many)
    free = np.broadcast_to(starts, (sets, *starts.shape[-2:])).reshape(sets * many, -1)
    lowest = np.where(data.weight > 0, data.z, np.inf).min(1)
    ceiling = np.broadcast_to(form.ceiling(np.exp(lowest)), sets)
    if many > _FINALISTS:
        free, cost = _descend(centre.rows(which), form, free, ceiling[which], _ROUGH, far=True)
        first = np.argsort(cost.reshape(sets, many), axis=1)[:, :_FINALISTS]
        chosen = (first + many * np.arange(sets)[:, None]).ravel()
        free, which, many = free[chosen], np.repeat(np.arange(sets), _FINALISTS), _FINALISTS
    free, cost = _descend(centre.rows(which), form, free, ceiling[which], _LONG)
    best = np.argmin(cost.reshape(sets, many), axis=1) + many * np.arange(sets)
    return _moved(free[best] @ form.directions().T + form.fixed(), shift), cost[best]


def _moved(constants: Array, shift: Array) -> Array:
    """The constants of the same laws where x and y are counted from another zero."""
    moved = constants.copy()
    for term, by in ((0, shift[0]), (2, shift[1])):
        moved[..., term] += np.where(moved[..., term] <= ABSENT, 0, moved[..., term + 1] * by)
    return moved


def _free(constants: Array, form: Form) -> Array:
    """The free constants of laws of this form."""
    directions = form.directions()
    free: Array = (constants - form.fixed()) @ directions / (directions**2).sum(0)
    return free


def _grid(data: Data, form: Form) -> Array:
    """Starts ``(N, K)`` with every pair of exponents and several shares of the terms."""
    middle = float(data.z.mean())
    second = _EXPONENTS if form.data and not form.tied else _EXPONENTS[:1]
    starts = np.array(
        [
            (middle + np.log(n), alpha, middle + np.log(d), beta, middle + np.log(e))
            for alpha in _EXPONENTS
            for beta in second
            for n, d, e in _PARTS
        ]
    )
    if form.tied:
        starts[:, 3] = starts[:, 1]
    return _free(starts, form)


def _descend(
    data: Data, form: Form, free: Array, ceiling: Array, steps: int, *, far: bool = False
) -> tuple[Array, Array]:
    """Takes Newton's steps, damped by Levenberg and Marquardt's rule for each fit by itself.

    ``far``: takes the bend of the parabola that lies above the Huber loss and touches it, as in
    iteratively reweighted least squares: far from the optimum the loss itself hardly bends.
    """
    directions, fixed = form.directions(), form.fixed()
    limited = form.offset != "none"
    free = free.copy()
    if limited:
        free[:, -1] = np.minimum(free[:, -1], ceiling)
    cost, slope, bend = _derivatives(data, free @ directions.T + fixed, directions, far)
    damping = np.full(len(free), 1e-3)
    active = np.arange(len(free))
    for _ in range(steps):
        own = data.rows(active)
        # On its limit E stays there while the loss falls beyond.
        held = np.zeros((len(active), free.shape[1]), bool)
        if limited:
            held[:, -1] = (free[active, -1] >= ceiling[active]) & (slope[active, -1] < 0)
        tried = free[active] - _step(slope[active], bend[active], damping[active], held)
        if limited:
            tried[:, -1] = np.minimum(tried[:, -1], ceiling[active])
        new, new_slope, new_bend = _derivatives(own, tried @ directions.T + fixed, directions, far)
        better = new < cost[active]
        gain = (cost[active] - new) / np.maximum(cost[active], 1e-300)
        won = active[better]
        free[won], cost[won] = tried[better], new[better]
        slope[won], bend[won] = new_slope[better], new_bend[better]
        damping[active] *= np.where(better, 0.2, 5.0)
        settled = np.where(better, gain < _SETTLED, damping[active] > 1e8)
        active = active[~settled]
        if not len(active):
            break
    return free, cost


def _step(slope: Array, bend: Array, damping: Array, held: Array) -> Array:
    """The damped Newton step ``(S, K)``: along directions in which the loss bends down, it is as long
    as if it bent up as much, so that it never climbs."""
    slope = np.where(held, 0, slope)
    bend = np.where(held[:, :, None] | held[:, None, :], 0, bend)
    bend = bend + np.eye(bend.shape[1]) * held[:, :, None]
    values, vectors = np.linalg.eigh(bend)
    size = np.abs(values)
    size += damping[:, None] * size.max(1, keepdims=True) + 1e-30
    along = np.einsum("ski,sk->si", vectors, slope) / size
    step: Array = np.einsum("ski,si->sk", vectors, along)
    return step


def _derivatives(
    data: Data, constants: Array, directions: Array, far: bool
) -> tuple[Array, Array, Array]:
    """The Huber loss ``(S,)``, its slope ``(S, K)`` and its second derivatives ``(S, K, K)``."""
    a, alpha, b, beta, e = (constants[:, i, None] for i in range(5))
    terms = np.stack(np.broadcast_arrays(a - alpha * data.x, b - beta * data.y, e))
    top = terms.max(0)
    parts = np.exp(terms - top)
    total = parts.sum(0)
    parts /= total
    residual = top + np.log(total) - data.z
    inside = np.abs(residual) <= DELTA
    pull = data.weight * np.clip(residual, -DELTA, DELTA)
    cost = (pull * (residual - np.clip(residual, -DELTA, DELTA) / 2)).sum(1)
    # How each term changes with the free constants: (S, P, K) for each of the three terms.
    x = np.broadcast_to(data.x, residual.shape)[..., None]
    y = np.broadcast_to(data.y, residual.shape)[..., None]
    d = directions
    change = (d[0] - x * d[1], d[2] - y * d[3], np.broadcast_to(d[4], (*residual.shape, len(d[4]))))
    mean = sum(p[..., None] * c for p, c in zip(parts, change, strict=True))
    slope = np.einsum("sp,spk->sk", pull, mean)
    if far:
        above = data.weight * DELTA / np.maximum(np.abs(residual), DELTA)
        return cost, slope, np.matmul((above[..., None] * mean).swapaxes(1, 2), mean)
    # Gauss and Newton's part, and that of the bend of log-sum-exp.
    weight = (data.weight * inside - pull)[..., None] * mean
    bend = np.matmul(weight.swapaxes(1, 2), mean)
    for p, c in zip(parts, change, strict=True):
        bend += np.matmul(((pull * p)[..., None] * c).swapaxes(1, 2), c)
    return cost, slope, bend
