"""Images, contact sheets and animations as PNG and GIF."""

from __future__ import annotations

import io
import itertools

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LINE = "#1f4e79"
CHANNELS = (LINE, "#d55e00", "#009e73")
"""Colors of the channels of a series that are drawn."""
LONG = 512
"""Width from which on a single row is drawn as a curve."""


def image_sheet(images: Tensor) -> bytes:
    """PNG of images (B, k, C, H, W) in [0, 1], one column per group of k images."""
    size = images.shape[-1], images.shape[-2]
    table = [[to_image(p, size) for p in row] for row in images.float().cpu().unbind(1)]
    return contact_sheet(table, gap_after_first=False)


def image(x: Tensor) -> bytes:
    """PNG of one image (C, H, W) in [0, 1]."""
    return to_png(to_image(x, (x.shape[-1], x.shape[-2])))


def sample_sheet(x: Tensor, labels: list[str], columns: int = 10) -> bytes:
    """PNG of images (N, C, H, W) in [0, 1], with a number of columns and a label for each row.

    Images with other than 1 or 3 channels are videos, drawn as one row of frames each.
    """
    size = x.shape[-1], x.shape[-2]
    if x.shape[1] not in (1, 3):
        labels = [label for label in labels for _ in range(len(x) // len(labels))]
        columns, x = x.shape[1], x.flatten(0, 1)[:, None]
    shown = [to_image(p, size) for p in x]
    table = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    sheet = paste_sheet(table, gap_after_first=False)
    return to_png(put_beside(labels, sheet, shown[0].height + 4))


def put_beside(labels: list[str], sheet: Image.Image, height: int) -> Image.Image:
    """A sheet of rows of a height, with a label beside each."""
    if not labels:
        return sheet
    font = ImageFont.load_default(size=20)
    margin = 24 + max(round(font.getlength(label)) for label in labels)
    sheet_with_labels = Image.new("RGB", (sheet.width + margin, sheet.height), "white")
    sheet_with_labels.paste(sheet, (margin, 0))
    pen = ImageDraw.Draw(sheet_with_labels)
    for i, label in enumerate(labels):
        middle = i * height + (height - 4) / 2
        pen.text((margin - 12, middle), label, fill="#1c2430", font=font, anchor="rm")
    return sheet_with_labels


def gif(videos: Tensor, seconds: float = 0.2) -> bytes:
    """Looping GIF of videos (B, T, C, H, W) in [0, 1] side by side; the last frame stays longer."""
    size = videos.shape[-1], videos.shape[-2]
    images = []
    for frames in videos.float().cpu().unbind(1):
        sheet = paste_sheet([[to_image(image, size) for image in frames]], gap_after_first=False)
        images.append(sheet.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))
    long = [round(1000 * seconds)] * (len(images) - 1) + [round(5000 * seconds)]
    content = io.BytesIO()
    first, *others = images
    first.save(content, "GIF", save_all=True, append_images=others, duration=long, loop=0)
    return content.getvalue()


def still(gif: bytes) -> bytes:
    """PNG of the last frame of a GIF, for readers who prefer reduced motion."""
    video = Image.open(io.BytesIO(gif))
    video.seek(getattr(video, "n_frames", 1) - 1)
    return to_png(video.convert("RGB"))


def to_png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def to_image(x: Tensor, size: tuple[int, int]) -> Image.Image:
    """Image of (C, H, W) in [0, 1]; of 2 or more than 3 channels, the first is drawn.

    A long single row, such as audio, is drawn as a curve.
    """
    if size[1] == 1 and size[0] > LONG:
        return _curve(x[0, 0], size[0])
    shown = x if x.shape[0] in (1, 3) else x[:1]
    array = (shown.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).expand(-1, -1, 3)
    image = Image.fromarray(array.contiguous().numpy())
    times = max(1, round(96 / max(size)))
    return image.resize((size[0] * times, size[1] * times), Image.Resampling.NEAREST)


def series_image(x: Tensor, size: tuple[int, int] = (128, 64), span: float = 3.5) -> Image.Image:
    """Image of a standardized series (C, 1, T): a line for each of its first channels.

    Missing timestamps, which are 0 in all channels, are gaps.

    Args:
        x: the series.
        size: width and height of the image.
        span: standard deviations above and below the mean that are shown.
    """
    image = Image.new("RGB", size, "#f3f4f6")
    pen = ImageDraw.Draw(image)
    known = (x != 0).any(0)[0].tolist()
    across = torch.linspace(0, size[0] - 1, x.shape[2]).round().int().tolist()
    down = ((1 - x[:, 0] / span) / 2 * (size[1] - 1)).clamp(0, size[1] - 1).round().int().tolist()
    for line, color in zip(down, CHANNELS, strict=False):
        points = list(zip(across, line, known, strict=True))
        for (x0, y0, first), (x1, y1, second) in itertools.pairwise(points):
            if first and second:
                pen.line((x0, y0, x1, y1), fill=color)
    return image


def _curve(values: Tensor, length: int, width: int = 192, height: int = 72) -> Image.Image:
    """Minimum and maximum per column of a row in [−1, 1]; the row may end early (NaN)."""
    row = torch.nan_to_num(values.float(), nan=0.0)
    row = torch.nn.functional.pad(row, (0, -(-length // width) * width - len(row)))
    columns = row.view(width, -1).clamp(-1, 1)
    ends = torch.stack([columns.amax(1), columns.amin(1)], 1)
    rows_of_ends = ((1 - ends) / 2 * (height - 1)).round().int().tolist()
    image = Image.new("RGB", (width, height), "#f3f4f6")
    pen = ImageDraw.Draw(image)
    for column, (top, bottom) in enumerate(rows_of_ends):
        pen.line((column, top, column, bottom), fill=LINE)
    return image


def contact_sheet(table: list[list[Image.Image]], gap_after_first: bool) -> bytes:
    return to_png(paste_sheet(table, gap_after_first))


def paste_sheet(table: list[list[Image.Image]], gap_after_first: bool) -> Image.Image:
    width, height = table[0][0].size
    gap, wide = 4, 16 if gap_after_first else 4
    columns = max(len(row) for row in table)
    extent = columns * (width + gap) + wide - gap, len(table) * (height + gap) - gap
    sheet = Image.new("RGB", extent, "white")
    for i, row in enumerate(table):
        for j, image in enumerate(row):
            sheet.paste(image, (j * (width + gap) + (wide - gap if j else 0), i * (height + gap)))
    return sheet
