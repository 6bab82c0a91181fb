"""Contact sheets: many small pictures in one, with or without a line of text above each."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facerecon.batch import rows
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.evaluation.heads.expressions import Expressed
from facerecon.evaluation.heads.views import Views
from facerecon.evaluation.photos import worst_first
from facerecon.files import png
from facerecon.imaging import to_bytes
from facerecon.lighting import shade
from facerecon.morphable_model import MorphableModel
from facerecon.render import render

ERROR_LIMIT = 10.0
"""mm of depth error at the ends of the color scale."""

_PANEL, _TEXT = 120, 20  # pixels
_CLAY_LIGHT = (0.25, -0.3, 0.3, 0.6)


def contact_sheet(
    rows: Sequence[Sequence[Float[np.ndarray, "height width 3"]]],
    captions: Sequence[str],
    columns: int = 4,
    panel: int = _PANEL,
    text: int = _TEXT,
) -> Image.Image:
    """Panels of `panel` pixels side by side under a caption, `columns` such groups in a line.

    Args:
        text: height in pixels of a line of text.
    """
    across = len(rows[0]) * panel + 4
    down = panel + text
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (across * min(columns, len(rows)), down * lines), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=0.75 * text)
    for number, (panels, caption) in enumerate(zip(rows, captions, strict=True)):
        left, top = number % columns * across, number // columns * down
        pen.text((left + 2, top + 1), caption, fill="black", font=font)
        for place, values in enumerate(panels):
            picture = Image.fromarray(to_bytes(values))
            picture = picture.resize((panel, panel), Image.Resampling.LANCZOS)
            sheet.paste(picture, (left + place * panel, top + text))
    return sheet


def image_grid(images: Float[np.ndarray, "images size size"], columns: int = 8) -> bytes:
    """Grey images side by side, row by row, white where there is none, as a PNG file's content."""
    count, size = len(images), images.shape[1]
    lines = -(-count // columns)
    sheet = np.ones((lines * columns, size, size), np.float32)
    sheet[:count] = images
    sheet = sheet.reshape(lines, columns, size, size).swapaxes(1, 2)
    return png(sheet.reshape(lines * size, columns * size))


def clay(
    normals: Float[Tensor, "n 3 height width"], mask: Bool[Tensor, "n 1 height width"]
) -> Float[Tensor, "n 1 height width"]:
    """Grey pictures of a surface under one light from above, white outside."""
    light = normals.new_tensor([_CLAY_LIGHT]).expand(len(normals), 4)
    shading = shade(torch.ones_like(normals[:, :1]), light, normals)
    return torch.where(mask, shading, 1.0).clamp(0, 1)


def normal_picture(
    normals: Float[Tensor, "3 height width"], mask: Tensor
) -> Float[np.ndarray, "height width 3"]:
    """Unit normals as colors, white outside."""
    picture = torch.where(mask, 0.5 + 0.5 * normals, 1.0)
    return picture.permute(1, 2, 0).cpu().numpy()


def grey_picture(image: Float[Tensor, "1 height width"]) -> Float[np.ndarray, "height width 3"]:
    """A grey image as a color picture."""
    return image[0, ..., None].expand(-1, -1, 3).cpu().numpy()


@torch.no_grad()
def expressions_sheet(
    model: MorphableModel, found: dict[str, Expressed], each: int = 4
) -> Image.Image:
    """Photograph, true and predicted surface of the most frontal heads of each expression."""
    panels, captions = [], []
    for name, expressed in found.items():
        chosen = expressed.views.pose[:, 1].abs().argsort()[:each]
        views = rows(expressed.views, chosen)
        maps = render(model, expressed.r[chosen], views.image.shape[-1])
        true = clay(views.normals, views.normals.any(1, keepdim=True))
        ours = clay(maps.normals, maps.mask)
        for panel in zip(views.image, true, ours, strict=True):
            panels.append([grey_picture(picture) for picture in panel])
            captions.append(name)
    return contact_sheet(panels, captions, columns=each)


@torch.no_grad()
def heads_sheet(
    network: CoarseNet,
    model: MorphableModel,
    views: Views,
    errors: Float[Tensor, " views"],
    captions: Sequence[str],
    iterations: int = 4,
    limit: int = 60,
) -> Image.Image:
    """Photograph, true normals, predicted normals and depth error, from the best to the worst.

    Args:
        errors: what to sort by; NaN counts as worst.
        captions: one for each view.
        limit: pictures shown, evenly over the ranks, the best and the worst among them.
    """
    order = errors.nan_to_num(torch.inf).argsort()
    ranks = torch.linspace(0, len(order) - 1, min(limit, len(order))).round().long()
    order = order[ranks.to(order.device)]
    panels = []
    for part in rows(views, order).chunks(25):
        maps = render(
            model, iterate(network, model, part.image, iterations)[-1], part.image.shape[-1]
        )
        for i in range(len(part.image)):
            valid = (part.face & maps.mask)[i, 0]
            difference = (maps.depth - part.depth)[i, 0]
            if valid.any():
                difference = difference - difference[valid].median()
            share = 0.5 + 0.5 * difference / ERROR_LIMIT
            colors = colormaps["RdBu"](share.clamp(0, 1).cpu().numpy())[..., :3]
            panels.append(
                [
                    grey_picture(part.image[i]),
                    normal_picture(part.normals[i], part.normals[i].any(0)),
                    normal_picture(maps.normals[i], maps.mask[i]),
                    np.where(valid.cpu().numpy()[..., None], colors, 1.0),
                ]
            )
    return contact_sheet(panels, [captions[i] for i in order.tolist()])


@torch.no_grad()
def photos_sheet(
    model: MorphableModel,
    image: Float[Tensor, "photos 1 size size"],
    measures: dict[str, Tensor],
    names: Sequence[str],
    limit: int = 120,
) -> Image.Image:
    """Crop with landmarks and crop under the predicted normals, the worst first.

    Args:
        measures: of `evaluate_photos`; captions tell the name, the disagreement with the mirrored
            photograph and the last step's movement, both in percent of the face box.
    """
    order = worst_first(measures)[:limit].cpu()
    panels, captions = [], []
    for part in order.split(25):
        maps = render(model, measures["r"][part], image.shape[-1])
        for place, i in enumerate(part.tolist()):
            crop = grey_picture(image[i])
            normals = normal_picture(maps.normals[place], maps.mask[place])
            seen = maps.mask[place, 0, ..., None].cpu().numpy()
            points = measures["landmarks"][i].cpu().numpy()
            panels.append(
                [_dotted(crop, points), np.where(seen, 0.35 * crop + 0.65 * normals, crop)]
            )
            verdict = "" if measures["accepted"][i] else "REJECTED "
            captions.append(
                f"{verdict}{names[i]}  mirror {measures['mirror'][i]:.1f}, last step"
                f" {measures['moved'][i, -1]:.1f} %"
            )
    return contact_sheet(panels, captions)


def _dotted(
    picture: Float[np.ndarray, "height width 3"], points: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "height width 3"]:
    """The picture with green dots of 3 x 3 pixels at (column, row)."""
    picture = picture.copy()
    for column, row in np.rint(points).astype(int):
        top, left = max(row - 1, 0), max(column - 1, 0)
        picture[top : max(row + 2, 0), left : max(column + 2, 0)] = (0.1, 1.0, 0.4)
    return picture
