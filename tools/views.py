"""What a network is pretrained on: pictures of a fractal before a texture, and their looks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from formulas import CANVAS, FIELD

PLACE, WHOLE = 25, 104  # numbers of the looks of one place and of the whole picture


def view(
    figures, fields, size: int, hardest: float, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (B, 3, size, size) in 0..1, which of them show a fractal (B,) and which a texture (B,).

    From figures (B, 2, CANVAS, CANVAS) and fields (B, FIELD, FIELD), uint8. Each function of a
    fractal gets a colour, its ground three (`_colours`); a third of all pictures is grey. Fractal
    and ground get a turn, mirror, scale, shear and shift each, a quarter of the fractals is smeared
    into soft blobs, a third of the pictures is ground alone; then contrast, blur and noise. How far
    each goes is drawn between 0 (a white fractal on black, a grey texture) and `hardest`.
    """
    n = len(figures)

    def uniform(low, high, *shape):
        return torch.rand(n, *shape, generator=draw, device=draw.device) * (high - low) + low

    far, alone = uniform(0, hardest), uniform(0, 1) < 0.33
    strength = far[:, None, None, None]
    colours = _colours(11, uniform)
    seen = _figure(figures, 1 + (colours[:, :, :8] - 1) * far[:, None, None], size, far, uniform)
    soft = uniform(0, 1) < 0.25
    seen[soft] = (_blurred(seen[soft], 7) * 1.5).clamp(max=1)
    alpha = seen[:, 3:] * (1 - uniform(0, 0.3, 1, 1, 1) * strength)
    paint = seen[:, :3] / seen[:, 3:].clamp(min=1e-3) * (0.4 + 0.6 * seen[:, 3:])
    alpha = alpha * ~alone[:, None, None, None]
    contrast = torch.where(alone, 1.0, far * uniform(0.2, 1))
    ramp = torch.tensor((0, 0.5, 1), device=draw.device)
    dyes = ramp + (colours[:, :, 8:] - ramp) * far[:, None, None]
    ground = _ground(fields, dyes, contrast[:, None, None, None], size, far, uniform)
    ground = ground * torch.where(alone, 1.0, (far * 2).clamp(max=1))[:, None, None, None]
    x = ground * (1 - alpha) + paint * alpha
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.33, x.mean(1, keepdim=True), x)
    blurred = uniform(0, 1) < 0.3 * far
    x[blurred] = _blurred(x[blurred], 3)
    x = x + ((x - 0.5) * uniform(-0.3, 0.4, 1, 1, 1) + uniform(-0.15, 0.15, 1, 1, 1)) * strength
    noise = torch.randn(x.shape, generator=draw, device=x.device)
    x = x + noise * uniform(-0.04, 0.06, 1, 1, 1).clamp(min=0) * strength
    return x.clamp(0, 1), ~alone, contrast > 0.3


def _colours(count: int, uniform) -> torch.Tensor:
    """Colours (B, 3, count): of each picture any, near one, or of two dyes, a third each.

    Light that a layer of dyes lets through falls off with the amount of each (Beer and Lambert;
    Ruifrok and Johnston 2001, "Quantification of histochemical staining by color deconvolution"),
    as in stained tissue, or in skin with its melanin and its blood.
    """
    colours, kind = uniform(0, 1, 3, count), uniform(0, 1, 1, 1)
    near = colours + (uniform(0, 1, 3, 1) - colours) * uniform(0.5, 0.95, 1, 1)
    dyes = F.normalize(uniform(0, 1, 3, 2), dim=1)
    dyed = torch.exp(-dyes @ uniform(0, 2.5, 2, count))
    return torch.where(kind < 1 / 3, near, torch.where(kind < 2 / 3, dyed, colours))


def _figure(figures, colours, size, far, uniform):
    """Painted fractals (B, 4, size, size): colour times density, and density."""
    n = len(figures)
    index = figures[:, 1].long().flatten(1)[:, None].expand(n, 3, -1)
    paint = colours.gather(2, index).view(n, 3, CANVAS, CANVAS)
    density = figures[:, :1].float() / 255
    scale, shift = 1 + uniform(-0.6, 0.2) * far, uniform(-0.3, 0.3, 2) * far[:, None]
    grid = F.affine_grid(_turned(scale, far, shift, uniform), (n, 1, size, size), False)
    return F.grid_sample(torch.cat((paint * density, density), 1), grid, align_corners=False)


def _ground(fields, colours, contrast, size, far, uniform):
    """Fields (B, 3, size, size) in three colours, the middle one between, at a contrast."""
    scale, shift = (1 + uniform(-0.4, 0.5) * far) * size / FIELD, uniform(-0.5, 0.5, 2)
    turned = _turned(scale, far, shift, uniform)
    grid = F.affine_grid(turned, (len(fields), 1, size, size), False)
    fields = fields[:, None].float() / 255
    z = F.grid_sample(fields, grid, padding_mode="reflection", align_corners=False) * 2
    low, middle, high = colours[..., None, None].unbind(2)
    towards = (low - middle) * (1 - z).clamp(min=0) + (high - middle) * (z - 1).clamp(min=0)
    return middle + towards * contrast


def _blurred(x: torch.Tensor, width: int) -> torch.Tensor:
    """x (B, C, S, S) under a box of `width` pixels, one direction after the other."""
    half = width // 2
    x = F.avg_pool2d(x, (width, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, width), 1, (0, half), count_include_pad=False)


def _turned(scale, far, shift, uniform) -> torch.Tensor:
    """Affine maps (n, 2, 3): a mirror and, by strength `far` (n,), turn and shear."""
    angle = uniform(-math.pi, math.pi) * far
    cos, sin = angle.cos() * scale, angle.sin() * scale
    mirror, shear = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0), uniform(-0.25, 0.25) * far
    rows = (cos, -sin + shear * cos, shift[:, 0], sin * mirror, (cos + shear * sin) * mirror)
    return torch.stack((*rows, shift[:, 1]), 1).view(-1, 2, 3)


# --- looks ---


def looks(x: torch.Tensor, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Looks (B, PLACE, places, places) of each place and (B, WHOLE) of all of x (B, 3, S, S).

    A place: means and deviations of the colours, how two vary together, contrast at three scales,
    gradients of four directions at two scales, and how much lies above five greys. The whole: means
    and deviations of these, a histogram of 27 colours, and the colours of 3 x 3 places.
    """
    half = F.avg_pool2d(x, 2)
    greys = [x.mean(1, keepdim=True), half.mean(1, keepdim=True)]
    greys.append(F.avg_pool2d(greys[1], 2))
    contrasts = [(grey - _blurred(grey, 3)).abs() for grey in greys]
    gradients = [_gradients(grey) for grey in (greys[0], greys[2])]
    above = [torch.sigmoid((greys[1] - at) * 20) for at in (0.1, 0.3, 0.5, 0.7, 0.9)]
    colours = torch.cat((half, half * half, half * half.roll(1, 1)), 1)
    mean, square, mixed = F.adaptive_avg_pool2d(colours, places).split(3, 1)
    together = mixed - mean * mean.roll(1, 1)
    together = together.sign() * together.abs().sqrt()
    textured = torch.cat(
        [F.adaptive_avg_pool2d(m, places) for m in (*contrasts, *gradients, *above)], 1
    )
    spread = (square - mean**2).clamp(min=0).sqrt()
    place = torch.cat((mean, spread, together, textured.sqrt()), 1)
    ink = torch.stack([torch.exp(-(((half - at) * 3) ** 2)) for at in (0.1, 0.5, 0.9)], 1)
    red, green, blue = F.avg_pool2d(ink.flatten(1, 2), 2).unflatten(1, (3, 3)).flatten(3).unbind(2)
    both = red[:, :, None] * green[:, None]
    histogram = both.flatten(1, 2) @ blue.transpose(1, 2) / red.shape[2]
    whole = (place.mean((2, 3)), place.std((2, 3)), histogram.flatten(1).sqrt())
    return place, torch.cat((*whole, F.adaptive_avg_pool2d(half, 3).flatten(1)), 1)


def _gradients(grey: torch.Tensor) -> torch.Tensor:
    """Sizes (B, 4, S, S) of the changes along four directions."""
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return torch.cat((dx, dy, (dx + dy) * 0.7, (dx - dy) * 0.7), 1).abs()
