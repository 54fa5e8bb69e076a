"""The materials of the CLEVR world: how rubber, metal and ground scatter light.

The first dimension of a vector holds x, y, z; that of a colour red, green, blue. Every function
takes unit vectors that point away from the surface. A scattered fraction is the material's
bidirectional reflectance distribution function (BRDF) times the cosine toward the light
(1 / steradian).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

ALBEDO: Final[dict[str, tuple[float, float, float]]] = {
    "gray": (87 / 255, 87 / 255, 87 / 255),
    "red": (173 / 255, 35 / 255, 35 / 255),
    "blue": (42 / 255, 75 / 255, 215 / 255),
    "green": (29 / 255, 105 / 255, 20 / 255),
    "brown": (129 / 255, 74 / 255, 25 / 255),
    "purple": (129 / 255, 38 / 255, 192 / 255),
    "cyan": (41 / 255, 208 / 255, 208 / 255),
    "yellow": (255 / 255, 238 / 255, 51 / 255),
}
"""Linear reflectance of the eight colours: the published 8-bit triplets, not gamma-decoded."""

GROUND_ALBEDO: Final = 0.8
COAT: Final = 0.8
GLOSS: Final = 0.35
SHEEN: Final = 0.6
ROUGH: Final = 0.2
SMOOTH: Final = 0.01
ROUGH_SHARE: Final = 0.4
ANISOTROPY: Final = 0.25


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over the first dimension."""
    return (a * b).sum(0)


def unit(a: Tensor) -> Tensor:
    """The vector ``a``, normalised to length 1."""
    return a / a.square().sum(0).sqrt().clamp_min(1e-12)


def fresnel(cosine: Tensor, index: float) -> Tensor:
    """Reflectance of a dielectric of refractive ``index`` for unpolarised light."""
    g = (index * index - 1 + cosine * cosine).sqrt()
    a = (g - cosine) / (g + cosine)
    b = (cosine * (g + cosine) - 1) / (cosine * (g - cosine) + 1)
    return 0.5 * a * a * (1 + b * b)


def velvet(normal: Tensor, view: Tensor, light: Tensor) -> Tensor:
    """Fraction scattered by velvet (Ashikhmin, Premoze and Shirley 2000) of width ``SHEEN``."""
    half = unit(view + light)
    cos_v, cos_l = dot(normal, view).clamp_min(1e-3), dot(normal, light).clamp_min(0)
    cos_h = dot(normal, half).clamp(1e-3, 1)
    sin2 = (1 - cos_h * cos_h).clamp_min(1e-4)
    density = torch.exp(-(cos_h * cos_h) / (sin2 * SHEEN**2)) / (math.pi * SHEEN**2 * sin2 * sin2)
    ratio = 2 * cos_h / dot(half, view).clamp_min(1e-3)
    shadowing = (ratio * torch.minimum(cos_v, cos_l)).clamp_max(1)
    return torch.where(cos_l > 0, 0.25 * density * shadowing / cos_v, 0.0)


def beckmann(normal: Tensor, view: Tensor, light: Tensor, alpha: float) -> Tensor:
    """Fraction scattered by a rough mirror with the Beckmann distribution of slopes."""
    half = unit(view + light)
    cos_v, cos_l = dot(normal, view).clamp_min(1e-3), dot(normal, light)
    cos2 = dot(normal, half).clamp(1e-3, 1).square()
    density = torch.exp((cos2 - 1) / (cos2 * alpha**2)) / (math.pi * alpha**2 * cos2 * cos2)
    visible = _beckmann_mask(cos_v, alpha) * _beckmann_mask(cos_l.clamp_min(1e-3), alpha)
    return torch.where(cos_l > 0, density * visible / (4 * cos_v), 0.0)


def _beckmann_mask(cosine: Tensor, alpha: float) -> Tensor:
    """Fraction of facets that are not masked, by the rational fit of Walter et al. 2007."""
    a = cosine / (alpha * (1 - cosine * cosine).clamp_min(1e-6).sqrt())
    return torch.where(a < 1.6, (3.535 * a + 2.181 * a * a) / (1 + 2.276 * a + 2.577 * a * a), 1.0)


def ggx(
    normal: Tensor, tangent: Tensor, view: Tensor, light: Tensor, alpha_t: Tensor, alpha_b: Tensor
) -> Tensor:
    """Fraction scattered by a rough mirror with anisotropic GGX slopes (Heitz 2014).

    ``alpha_t`` and ``alpha_b`` are the roughness along the tangent and across it.
    """
    bitangent = torch.linalg.cross(normal, tangent, dim=0)

    def stretched(a: Tensor) -> tuple[Tensor, Tensor]:
        slope = (alpha_t * dot(tangent, a)).square() + (alpha_b * dot(bitangent, a)).square()
        cosine = dot(normal, a)
        return cosine, slope

    half = unit(view + light)
    cos_h = dot(normal, half)
    width = (
        (dot(tangent, half) / alpha_t).square()
        + (dot(bitangent, half) / alpha_b).square()
        + cos_h * cos_h
    )
    density = 1 / (math.pi * alpha_t * alpha_b * width * width)
    cos_v, slope_v = stretched(view)
    cos_l, slope_l = stretched(light)
    cos_v = cos_v.clamp_min(1e-3)
    mask_v = 2 * cos_v / (cos_v + (cos_v * cos_v + slope_v).sqrt())
    mask_l = 2 * cos_l / (cos_l + (cos_l * cos_l + slope_l).sqrt())
    return torch.where(cos_l > 0, density * mask_v * mask_l / (4 * cos_v), 0.0)


def rubber(color: Tensor, normal: Tensor, view: Tensor, light: Tensor) -> Tensor:
    """Fraction of light from ``light`` that rubber scatters to ``view``, per colour channel."""
    cos_v = dot(normal, view).clamp(0, 1)
    coat, sheen = fresnel(cos_v, 1.25), fresnel(cos_v, 1.45)
    matte = dot(normal, light).clamp_min(0) / math.pi
    base = (1 - sheen) * matte + sheen * velvet(normal, view, light)
    return (1 - coat) * base * color + coat * COAT * beckmann(normal, view, light, GLOSS)


def metal(
    color: Tensor, normal: Tensor, tangent: Tensor, view: Tensor, light: Tensor, blur: Tensor
) -> Tensor:
    """Fraction of light from ``light`` that metal scatters to ``view``, per colour channel.

    ``blur`` is added to the squared roughness of both lobes. It stands for the apparent size of the
    lamp and the footprint of a pixel on a curved surface; without it, a highlight could lie between
    the samples and be missed.
    """
    along, across = 1 - ANISOTROPY, 1 / (1 - ANISOTROPY)
    rough = torch.full_like(blur, ROUGH).square() + blur
    smooth = torch.full_like(blur, SMOOTH).square() + blur
    lobes = [
        share * ggx(normal, tangent, view, light, along * a.sqrt(), across * a.sqrt())
        for share, a in ((ROUGH_SHARE, rough), (1 - ROUGH_SHARE, smooth))
    ]
    return color * (lobes[0] + lobes[1])
