"""Pictures for people: keypoints on images, flows as colours, and figures with captions.

Images are (H, W, 3) uint8 RGB; every function returns a new image and leaves its input alone. Coordinates are (x, y) in
[-1, 1] with -1 and 1 at the centres of the first and last pixel (align_corners=True).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lami.errors import DataError

__all__ = ["draw_keypoints", "enlarge", "flow_to_color", "frame", "grid", "interpolation_panel", "label"]

Image = NDArray[np.uint8]
Color = tuple[int, int, int]
Interpolation = Literal["nearest", "cubic"]

WHITE: Color = (255, 255, 255)
INK: Color = (30, 30, 30)
SELECTED: Color = (255, 122, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_READABLE_CELL = 160
"""Cells of a panel are enlarged to at least this many pixels."""


def draw_keypoints(image: Image, keypoints: NDArray[Any], radius: float | None = None) -> Image:
    """Draw keypoints as outlined dots, one colour for each spline.

    Args:
        image: (H, W, 3) uint8.
        keypoints: (K, N, 2), K splines of N points, or (P, 2), then each point has its own colour. Points that are not
            finite or outside the image are left out.
        radius: of a dot in pixels; by default in proportion to the image.

    Raises:
        DataError: the image or the keypoints have another shape or type.
    """
    canvas = _checked(image).copy()
    keypoints = np.asarray(keypoints, dtype=np.float64)
    if keypoints.ndim not in (2, 3) or keypoints.shape[-1] != 2:
        raise DataError(f"keypoints must be (K, N, 2) or (P, 2), not {keypoints.shape}, reshape them")
    groups = keypoints if keypoints.ndim == 3 else keypoints[:, None]
    height, width = canvas.shape[:2]
    if radius is None:
        radius = max(1.5, 0.0125 * min(height, width))
    outline = radius * 1.35 + 0.6
    for points, color in zip(groups, _distinct_colors(len(groups)), strict=True):
        inside = np.isfinite(points).all(axis=-1) & (np.abs(points) <= 1).all(axis=-1)
        for center in (points[inside] + 1) / 2 * (width - 1, height - 1):
            _blend_disc(canvas, center, outline, INK)
            _blend_disc(canvas, center, radius, color)
    return canvas


def flow_to_color(
    flow: NDArray[Any], kind: Literal["grid", "displacement"] = "grid", maximum: float | None = None
) -> Image:
    """Show a flow with the colour wheel of Baker et al. (Middlebury): hue is direction, saturation is length.

    Args:
        flow: (h, w, 2), a backward sampling grid or its displacement, in normalised coordinates.
        kind: `grid`, from which the identity is subtracted, or `displacement`.
        maximum: length, in pixels of the flow, of the most saturated colour; by default the longest one. Give it to
            compare several flows.

    Returns:
        (h, w, 3) uint8; no motion is white, values that are not finite are black.

    Raises:
        DataError: the flow has another shape or `maximum` is not positive.
    """
    flow = np.asarray(flow, dtype=np.float64)
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise DataError(f"a flow must be (h, w, 2), not {flow.shape}, pass one flow")
    if maximum is not None and not maximum > 0:
        raise DataError(f"the maximum of a flow picture must be positive, not {maximum}, change it")
    height, width = flow.shape[:2]
    if kind == "grid":
        identity = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        flow = flow - np.stack(identity, axis=-1)
    finite = np.isfinite(flow).all(axis=-1)
    x, y = np.moveaxis(np.where(finite[..., None], flow, 0) * ((width - 1) / 2, (height - 1) / 2), -1, 0)
    length = np.hypot(x, y)
    longest = maximum or length.max(initial=0) or 1.0
    wheel = _color_wheel()
    position = (np.arctan2(-y, -x) / np.pi + 1) / 2 * len(wheel)
    below = np.floor(position).astype(int)
    share = (position - below)[..., None]
    color = (1 - share) * wheel[below % len(wheel)] + share * wheel[(below + 1) % len(wheel)]
    saturation = np.clip(length / longest, 0, 1)[..., None]
    color = np.where(finite[..., None], 1 - saturation * (1 - color), 0)
    picture: Image = np.rint(255 * color).astype(np.uint8)
    return picture


def enlarge(image: Image, factor: int, interpolation: Interpolation = "cubic") -> Image:
    """Enlarge by an integer factor, to (H * factor, W * factor, 3).

    Raises:
        DataError: the image is not (H, W, 3) uint8 or the factor is below 1.
    """
    if factor < 1:
        raise DataError(f"the scale of a picture must be at least 1, not {factor}, change it")
    if factor == 1:
        return _checked(image).copy()
    mode = {"nearest": cv2.INTER_NEAREST, "cubic": cv2.INTER_CUBIC}[interpolation]
    return cv2.resize(_checked(image), None, fx=factor, fy=factor, interpolation=mode).astype(np.uint8, copy=False)


def label(
    image: Image, text: str, position: Literal["above", "below"] = "above", text_height: int | None = None
) -> Image:
    """Add a white bar with a centred caption; the text shrinks where it would be wider than the image.

    Args:
        image: (H, W, 3) uint8.
        text: the caption.
        position: of the bar.
        text_height: of capital letters in pixels; by default in proportion to the image, at least 9.

    Raises:
        DataError: the image is not (H, W, 3) uint8.
    """
    image = _checked(image)
    bar = _text_bar(text, image.shape[1], text_height or _text_height(image.shape[0]))
    return np.concatenate([bar, image] if position == "above" else [image, bar])


def frame(image: Image, color: Color = SELECTED, thickness: int | None = None) -> Image:
    """Draw a border inside the image, with a white hairline that sets it off from the content.

    Args:
        image: (H, W, 3) uint8.
        color: RGB.
        thickness: in pixels; by default in proportion to the image.

    Raises:
        DataError: the image is not (H, W, 3) uint8.
    """
    canvas = _checked(image).copy()
    thickness = thickness or max(2, round(0.025 * min(canvas.shape[:2])))
    hairline = max(1, thickness // 4)
    for fill, start, stop in ((WHITE, 0, thickness + hairline), (color, 0, thickness)):
        for edge in (canvas, canvas[::-1], canvas.swapaxes(0, 1), canvas.swapaxes(0, 1)[::-1]):
            edge[start:stop] = fill
    return canvas


def grid(
    rows: Sequence[Sequence[Image | None]],
    row_captions: Sequence[str] | None = None,
    column_captions: Sequence[str] | None = None,
    scale: int = 1,
    interpolation: Interpolation = "cubic",
    breaks: Sequence[int] = (),
) -> Image:
    """Compose a figure: equal cells on white, captions above the columns and, turned, at the left of the rows.

    Args:
        rows: images (H, W, 3) uint8 of any sizes, centred in their cells; None leaves a cell empty.
        row_captions: one for each row.
        column_captions: one for each column.
        scale: integer factor by which every image is enlarged.
        interpolation: of the enlargement.
        breaks: columns that are preceded by a wider gap.

    Raises:
        DataError: there is no image, an image is not (H, W, 3) uint8, or captions and cells do not match.
    """
    cells = [[None if image is None else enlarge(image, scale, interpolation) for image in row] for row in rows]
    images = [image for row in cells for image in row if image is not None]
    if not images:
        raise DataError("a grid needs at least one image, pass rows of images")
    columns = max(len(row) for row in cells)
    for name, captions, wanted in (("row", row_captions, len(cells)), ("column", column_captions, columns)):
        if captions is not None and len(captions) != wanted:
            raise DataError(f"the grid has {wanted} {name}s but {len(captions)} {name} captions, give one for each")
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    gap = max(2, round(0.03 * min(height, width)))
    text_height = _text_height(height)

    lines = []
    if column_captions is not None:
        lines.append([_text_bar(caption, width, text_height) for caption in column_captions])
    for row in cells:
        lines.append([_centered(image, height, width) for image in (*row, *[None] * (columns - len(row)))])
    strips = []
    for line in lines:
        pieces = [line[0]]
        for column, cell in enumerate(line[1:], start=1):
            pieces += [_blank(len(cell), 3 * gap if column in breaks else gap), cell]
        strips.append(np.concatenate(pieces, axis=1))
    if row_captions is not None:
        margins = [np.rot90(_text_bar(caption, height, text_height)) for caption in row_captions]
        if column_captions is not None:
            margins.insert(0, _blank(len(strips[0]), margins[0].shape[1]))
        strips = [np.concatenate([margin, strip], axis=1) for margin, strip in zip(margins, strips, strict=True)]
    figure = [strips[0]]
    for n, strip in enumerate(strips[1:], start=1):
        # A caption sits close to its column.
        figure += [_blank(0 if n == 1 and column_captions is not None else gap, strip.shape[1]), strip]
    return np.pad(np.concatenate(figure), ((gap, gap), (gap, gap), (0, 0)), constant_values=255)


def interpolation_panel(
    source: Image | Sequence[Image],
    drivings: Sequence[Image],
    candidates: Sequence[Sequence[Image]],
    selected: Sequence[int | None],
    results: Sequence[Image],
    times: Sequence[float] = (0.3, 0.5, 0.7),
    source_keypoints: NDArray[Any] | None = None,
    driving_keypoints: NDArray[Any] | None = None,
    candidate_keypoints: NDArray[Any] | None = None,
    row_captions: Sequence[str] | None = None,
    scale: int | None = None,
) -> Image:
    """One picture of what happens between source and driving: a row for each of R driving frames.

    Columns are: source, the T images generated in between with the selected one framed, driving, and result. Images are
    enlarged before keypoints are drawn, so that the dots stay fine.

    Args:
        source: one image (H, W, 3) uint8 for all rows, or R images.
        drivings: R images.
        candidates: R times T images.
        selected: R indices into the candidates; None where no candidate was used.
        results: R images.
        times: T times of the candidates.
        source_keypoints: (K, N, 2) for all rows or (R, K, N, 2); None draws no keypoints on the sources.
        driving_keypoints: (R, K, N, 2) or None.
        candidate_keypoints: (R, T, K, N, 2) or None.
        row_captions: R captions.
        scale: integer enlargement; by default as much as makes the images readable.

    Raises:
        DataError: the numbers of rows or times do not match, or an image is not (H, W, 3) uint8.
    """
    count = len(drivings)
    sources = [source] * count if isinstance(source, np.ndarray) and source.ndim == 3 else list(source)
    if source_keypoints is not None and np.ndim(source_keypoints) == 3:
        source_keypoints = np.repeat(np.asarray(source_keypoints)[None], count, axis=0)
    for name, values in (
        ("sources", sources),
        ("rows of candidates", candidates),
        ("selected times", selected),
        ("results", results),
        ("source keypoints", source_keypoints),
        ("driving keypoints", driving_keypoints),
        ("candidate keypoints", candidate_keypoints),
    ):
        if values is not None and len(values) != count:
            raise DataError(f"the panel has {count} driving frames but {len(values)} {name}, give one for each")
    for row, choice in zip(candidates, selected, strict=True):
        if len(row) != len(times):
            raise DataError(f"the panel has {len(times)} times but {len(row)} candidates in a row, give one for each")
        if choice is not None and not 0 <= choice < len(times):
            raise DataError(f"the selected candidate must be 0 to {len(times) - 1}, not {choice}, correct it")
    if count == 0:
        raise DataError("a panel needs at least one driving frame, pass some")
    factor = scale or max(1, -(-_READABLE_CELL // min(_checked(drivings[0]).shape[:2])))

    def cell(image: Image, keypoints: NDArray[Any] | None) -> Image:
        large = enlarge(image, factor)
        if keypoints is None:
            return large
        # Enlarging keeps the outer edges of the image in place, the coordinates count from the centres of its pixels.
        sides = np.array(image.shape[1::-1])
        inset = (sides - 1) * factor / np.maximum(sides * factor - 1, 1)
        return draw_keypoints(large, keypoints * inset)

    rows: list[list[Image]] = []
    for r in range(count):
        between = [
            cell(image, None if candidate_keypoints is None else candidate_keypoints[r][t])
            for t, image in enumerate(candidates[r])
        ]
        choice = selected[r]
        if choice is not None:
            between[choice] = frame(between[choice])
        first = cell(sources[r], None if source_keypoints is None else source_keypoints[r])
        target = cell(drivings[r], None if driving_keypoints is None else driving_keypoints[r])
        rows.append([first, *between, target, cell(results[r], None)])
    captions = ["source (t = 0)", *(f"t = {time:g}" for time in times), "driving (t = 1)", "result"]
    return grid(rows, row_captions, captions, breaks=(1, 1 + len(times), 2 + len(times)))


def _checked(image: Image) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"an image must be a uint8 array (H, W, 3), not {got}, convert it")
    if image.size == 0:
        raise DataError(f"an image must have pixels, not shape {image.shape}, pass another one")
    return np.ascontiguousarray(image)


def _distinct_colors(count: int) -> list[Color]:
    """Bright colours with hues evenly apart; neighbours in the list differ most."""
    golden = (np.sqrt(5) - 1) / 2
    order = np.argsort((np.arange(count) * golden) % 1, kind="stable")
    colors = []
    for n, rank in enumerate(order):
        red, green, blue = colorsys.hsv_to_rgb(rank / count, 0.85 if n % 2 else 0.65, 1.0)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colors


def _color_wheel() -> NDArray[np.float64]:
    """The 55 colours of Baker et al., from red over yellow, green, cyan, blue and magenta, (55, 3) in [0, 1]."""
    steps = (15, 6, 4, 11, 13, 6)
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], dtype=np.float64)
    arcs = [
        start + np.arange(count)[:, None] / count * (stop - start)
        for count, start, stop in zip(steps, corners[:-1], corners[1:], strict=True)
    ]
    return np.concatenate(arcs)


def _blend_disc(canvas: Image, center: NDArray[np.float64], radius: float, color: Color) -> None:
    """Paint a disc whose centre and edge are exact to a fraction of a pixel."""
    x0, y0 = np.maximum(np.floor(center - radius - 1), 0).astype(int)
    x1, y1 = np.ceil(center + radius + 1).astype(int) + 1
    region = canvas[y0:y1, x0:x1]
    rows, columns = np.indices(region.shape[:2])
    cover = np.clip(radius + 0.5 - np.hypot(columns + x0 - center[0], rows + y0 - center[1]), 0, 1)[..., None]
    region[:] = np.rint(region + cover * (np.array(color) - region))


def _blank(height: int, width: int) -> Image:
    return np.full((height, width, 3), 255, dtype=np.uint8)


def _centered(image: Image | None, height: int, width: int) -> Image:
    canvas = _blank(height, width)
    if image is not None:
        top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _text_height(cell: int) -> int:
    """Height of capital letters for cells of this height, in pixels."""
    return max(9, round(0.055 * cell))


def _text_bar(text: str, width: int, text_height: int) -> Image:
    """A white bar of this width with dark centred text."""
    canvas = _blank(round(2.4 * text_height), width)
    scale = cv2.getFontScaleFromHeight(_FONT, text_height)
    (needed, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    room = 0.96 * width
    if needed > room:
        scale *= room / needed
        (needed, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    baseline = (canvas.shape[0] + text_height) // 2
    cv2.putText(canvas, text, ((width - needed) // 2, baseline), _FONT, scale, INK, 1, cv2.LINE_AA)
    return canvas
