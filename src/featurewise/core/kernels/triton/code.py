"""The kernels themselves, in Triton (Tillet et al. 2019): tiles of features, float32 inside.

All of them see features as ``(samples, kept, reduced)``: γ and β are one for each of ``kept``, and
their gradients are sums over ``reduced``. One of the two lies side by side in memory:

* ROWS: ``reduced`` does, and ``kept`` is ``stride`` numbers apart (features before positions);
* otherwise ``kept`` does, and ``reduced`` is ``stride`` apart (features innermost).

A sample starts at ``sample // groups * stride_b + sample % groups * stride_g``. Offsets are 64-bit.
ALIGN divides the strides and the size that lies side by side, so that loads can be wide. A tile is
``(BK, BJ)``; ``ACT`` is an activation of `featurewise.core.kernels.film.ACTIVATIONS`.

Nothing is added atomically: a program that adds up a part of ``reduced`` stores its own sums, and
the caller adds those up, so that repeated runs are bit-identical.
"""

import triton
import triton.language as tl


@triton.jit
def _activated(z, ACT: tl.constexpr):
    """NaN stays NaN, as in torch."""
    if ACT == "relu":
        z = tl.where(z < 0.0, 0.0, z)
    elif ACT == "silu":
        z = z * tl.sigmoid(z)
    elif ACT == "gelu":
        z = z * (0.5 + 0.5 * tl.erf(z * 0.7071067811865476))
    return z


@triton.jit
def _through_activation(g, z, ACT: tl.constexpr):
    """The gradient by z, from that by the activated z."""
    if ACT == "relu":
        g = tl.where(z <= 0.0, 0.0, g)
    elif ACT == "silu":
        s = tl.sigmoid(z)
        g = g * (s * (1.0 + z * (1.0 - s)))
    elif ACT == "gelu":
        normal = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        g = g * (0.5 + 0.5 * tl.erf(z * 0.7071067811865476) + z * normal)
    return g


@triton.jit
def _start(sample, groups, stride_b, stride_g, ALIGN: tl.constexpr):
    """Where a sample begins; written so that the compiler sees what divides it."""
    return (sample // groups * (stride_b // ALIGN) + sample % groups * (stride_g // ALIGN)) * ALIGN


@triton.jit
def _offsets(start, k, j, stride, ROWS: tl.constexpr, ALIGN: tl.constexpr):
    """Offsets of a tile."""
    apart = stride // ALIGN * ALIGN
    if ROWS:
        at = start + k[:, None] * apart + j[None, :]
    else:
        at = start + j[None, :] * apart + k[:, None]
    return at


@triton.jit
def _inside(k, j, kept, reduced, ROWS: tl.constexpr, ALIGN: tl.constexpr):
    """Which numbers of a tile are features."""
    if ROWS:
        reduced = reduced // ALIGN * ALIGN
    else:
        kept = kept // ALIGN * ALIGN
    return (k < kept)[:, None] & (j < reduced)[None, :]


@triton.jit
def _parameter(values, sample, k, kept):
    """One number for each of ``kept``, as a column."""
    return tl.load(values + sample * kept + k, mask=k < kept, other=0.0)[:, None]


@triton.jit
def _store_sums(values, total, sample, chunk, chunks, k, kept):
    """Sums of one program, to ``(samples, chunks, kept)``."""
    tl.store(values + (sample * chunks + chunk) * kept + k, total, mask=k < kept)


@triton.jit
def film_forward(
    x,
    scale,
    shift,
    center,
    y,
    kept,
    reduced,
    groups,
    stride_b,
    stride_g,
    stride,
    ACT: tl.constexpr,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    BK: tl.constexpr,
    BJ: tl.constexpr,
):
    """``y = ACT(scale * (x - center) + shift)``; a center of None is 0."""
    program = tl.program_id(0).to(tl.int64)
    blocks_k, blocks_j = tl.cdiv(kept, BK), tl.cdiv(reduced, BJ)
    sample = program // (blocks_k * blocks_j)
    k = program // blocks_j % blocks_k * BK + tl.arange(0, BK)
    j = program % blocks_j * BJ + tl.arange(0, BJ)
    start = _start(sample, groups, stride_b, stride_g, ALIGN)
    at = _offsets(start, k, j, stride, ROWS, ALIGN)
    inside = _inside(k, j, kept, reduced, ROWS, ALIGN)
    z = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if center is not None:
        z -= _parameter(center, sample, k, kept)
    z = z * _parameter(scale, sample, k, kept) + _parameter(shift, sample, k, kept)
    tl.store(y + at, _activated(z, ACT).to(y.dtype.element_ty), mask=inside)


@triton.jit
def film_backward(
    g,
    x,
    scale,
    shift,
    center,
    tilt,
    level,
    to_x,
    to_scale,
    to_shift,
    kept,
    reduced,
    groups,
    stride_b,
    stride_g,
    stride,
    chunks,
    steps,
    ACT: tl.constexpr,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    BK: tl.constexpr,
    BJ: tl.constexpr,
):
    """Gradients of `film_forward`: by x, and the sums by scale and shift; each None if not wanted.

    With tilt and level, ``to_x`` is ``scale * dz - tilt * (x - center) - level``: what is left of
    the gradient of a group norm when the sums are known.
    """
    program = tl.program_id(0).to(tl.int64)
    blocks_k = tl.cdiv(kept, BK)
    sample, chunk = program // (blocks_k * chunks), program % chunks
    k = program // chunks % blocks_k * BK + tl.arange(0, BK)
    start = _start(sample, groups, stride_b, stride_g, ALIGN)
    gamma = _parameter(scale, sample, k, kept)
    by_scale = tl.zeros((BK, BJ), tl.float32)
    by_shift = tl.zeros((BK, BJ), tl.float32)
    for step in range(steps):
        j = (chunk * steps + step) * BJ + tl.arange(0, BJ)
        at = _offsets(start, k, j, stride, ROWS, ALIGN)
        inside = _inside(k, j, kept, reduced, ROWS, ALIGN)
        dz = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        from_center = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if center is not None:
            from_center -= _parameter(center, sample, k, kept)
        if ACT != "identity":
            z = from_center * gamma + _parameter(shift, sample, k, kept)
            dz = _through_activation(dz, z, ACT)
        by_scale += dz * from_center
        by_shift += dz
        if to_x is not None:
            dx = gamma * dz
            if tilt is not None:
                dx -= _parameter(tilt, sample, k, kept) * from_center
                dx -= _parameter(level, sample, k, kept)
            tl.store(to_x + at, dx.to(to_x.dtype.element_ty), mask=inside)
    if to_scale is not None:
        _store_sums(to_scale, tl.sum(by_scale, 1), sample, chunk, chunks, k, kept)
        _store_sums(to_shift, tl.sum(by_shift, 1), sample, chunk, chunks, k, kept)


@triton.jit
def moments(
    x,
    means,
    squares,
    kept,
    reduced,
    groups,
    stride_b,
    stride_g,
    stride,
    chunks,
    steps,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    BK: tl.constexpr,
    BJ: tl.constexpr,
):
    """Mean, and sum of squares around it, of each of ``kept`` in each chunk of ``reduced``.

    Every number of the tile keeps a running mean (Welford 1962); these are then combined (Chan
    et al. 1979).
    """
    program = tl.program_id(0).to(tl.int64)
    blocks_k = tl.cdiv(kept, BK)
    sample, chunk = program // (blocks_k * chunks), program % chunks
    k = program // chunks % blocks_k * BK + tl.arange(0, BK)
    start = _start(sample, groups, stride_b, stride_g, ALIGN)
    mean = tl.zeros((BK, BJ), tl.float32)
    square = tl.zeros((BK, BJ), tl.float32)
    count = tl.zeros((BK, BJ), tl.float32)
    for step in range(steps):
        j = (chunk * steps + step) * BJ + tl.arange(0, BJ)
        inside = _inside(k, j, kept, reduced, ROWS, ALIGN)
        at = _offsets(start, k, j, stride, ROWS, ALIGN)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        count += tl.where(inside, 1.0, 0.0)
        off = tl.where(inside, value - mean, 0.0)
        mean += off / tl.maximum(count, 1.0)
        square += off * (value - mean)
    total = tl.maximum(tl.sum(count, 1), 1.0)
    center = tl.sum(count * mean, 1) / total
    off = mean - center[:, None]
    _store_sums(means, center, sample, chunk, chunks, k, kept)
    around = tl.sum(square + count * off * off, 1)
    _store_sums(squares, around, sample, chunk, chunks, k, kept)


@triton.jit
def _sum_of_norm(values, NORM: tl.constexpr):
    """Sum over what is normalised together: a tile for a group norm, else ``kept``."""
    total = tl.sum(values, 0, keep_dims=True)
    return tl.sum(total, 1, keep_dims=True) if NORM == "group" else total


@triton.jit
def _statistic(sample, j, reduced, NORM: tl.constexpr):
    """Where the statistics of a tile are kept: one of a group, else one of each position."""
    return sample + 0 * j[None, :] if NORM == "group" else sample * reduced + j[None, :]


@triton.jit
def norm_forward(
    x,
    scale,
    shift,
    y,
    means,
    rates,
    kept,
    reduced,
    groups,
    stride_b,
    stride_g,
    stride,
    eps,
    NORM: tl.constexpr,
    ACT: tl.constexpr,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    BK: tl.constexpr,
    BJ: tl.constexpr,
):
    """``y = ACT(scale * norm(x) + shift)``; all of ``kept`` is in a tile.

    NORM is "layer" or "rms", over ``kept`` for each of ``reduced``, or "group", over both, where
    all of ``reduced`` is in the tile, too. Means and rates (one over the standard deviation) are
    kept for the backward pass.
    """
    program = tl.program_id(0).to(tl.int64)
    blocks_j = tl.cdiv(reduced, BJ)
    sample, k = program // blocks_j, tl.arange(0, BK).to(tl.int64)
    j = program % blocks_j * BJ + tl.arange(0, BJ)
    at = _offsets(_start(sample, groups, stride_b, stride_g, ALIGN), k, j, stride, ROWS, ALIGN)
    inside = _inside(k, j, kept, reduced, ROWS, ALIGN)
    count = kept * (reduced if NORM == "group" else 1)
    off = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    where = _statistic(sample, j, reduced, NORM)
    exists = (j < (1 if NORM == "group" else reduced))[None, :]
    if NORM != "rms":
        mean = _sum_of_norm(off, NORM) / count
        off = tl.where(inside, off - mean, 0.0)
        tl.store(means + where, tl.broadcast_to(mean, (1, BJ)), mask=exists)
    rate = 1.0 / tl.sqrt(_sum_of_norm(off * off, NORM) / count + eps)
    tl.store(rates + where, tl.broadcast_to(rate, (1, BJ)), mask=exists)
    z = off * rate * _parameter(scale, sample, k, kept) + _parameter(shift, sample, k, kept)
    tl.store(y + at, _activated(z, ACT).to(y.dtype.element_ty), mask=inside)


@triton.jit
def norm_backward(
    g,
    x,
    scale,
    shift,
    means,
    rates,
    to_x,
    to_scale,
    to_shift,
    kept,
    reduced,
    groups,
    stride_b,
    stride_g,
    stride,
    chunks,
    steps,
    NORM: tl.constexpr,
    ACT: tl.constexpr,
    ROWS: tl.constexpr,
    ALIGN: tl.constexpr,
    BK: tl.constexpr,
    BJ: tl.constexpr,
):
    """All gradients of `norm_forward` in one pass."""
    program = tl.program_id(0).to(tl.int64)
    sample, chunk = program // chunks, program % chunks
    k = tl.arange(0, BK).to(tl.int64)
    start = _start(sample, groups, stride_b, stride_g, ALIGN)
    count = kept * (reduced if NORM == "group" else 1)
    gamma, beta = _parameter(scale, sample, k, kept), _parameter(shift, sample, k, kept)
    by_scale = tl.zeros((BK, BJ), tl.float32)
    by_shift = tl.zeros((BK, BJ), tl.float32)
    for step in range(steps):
        j = (chunk * steps + step) * BJ + tl.arange(0, BJ)
        at = _offsets(start, k, j, stride, ROWS, ALIGN)
        inside = _inside(k, j, kept, reduced, ROWS, ALIGN)
        normed = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        where, exists = _statistic(sample, j, reduced, NORM), (j < reduced)[None, :]
        if NORM != "rms":
            normed = tl.where(inside, normed - tl.load(means + where, mask=exists, other=0.0), 0.0)
        rate = tl.load(rates + where, mask=exists, other=0.0)
        normed *= rate
        dz = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        dz = _through_activation(dz, normed * gamma + beta, ACT)
        by_scale += dz * normed
        by_shift += dz
        dx = gamma * dz
        off = normed * (_sum_of_norm(dx * normed, NORM) / count)
        if NORM != "rms":
            off += _sum_of_norm(dx, NORM) / count
        tl.store(to_x + at, (rate * (dx - off)).to(to_x.dtype.element_ty), mask=inside)
    _store_sums(to_scale, tl.sum(by_scale, 1), sample, chunk, chunks, k, kept)
    _store_sums(to_shift, tl.sum(by_shift, 1), sample, chunk, chunks, k, kept)
