"""Bilinear sampling of an image, one axis at a time: where a coordinate falls, the four pixels there, their blend.

Padding and unnormalisation are those of `torch.nn.functional.grid_sample`, except that NaN and coordinates beyond 1e4
lie at the edge of that range instead of anywhere. No function forms an index that could overflow, and none reads
outside the image, whatever the coordinates hold.
"""

import triton
import triton.language as tl

_FAR = tl.constexpr(1e4)


@triton.jit
def axis_taps(position, size, PADDING: tl.constexpr, ALIGN_CORNERS: tl.constexpr):
    """The two neighbouring pixels that normalised coordinates fall between, along one axis.

    Args:
        position: fp32 or fp64 block of coordinates; -1 to 1 covers the image.
        size: pixels along the axis, at least 1.
        PADDING: "zeros", "border" or "reflection".
        ALIGN_CORNERS: whether -1 and 1 are the centres of the outermost pixels, or their outer edges.

    Returns:
        first: int32 index of the lower pixel, in -2..size + 1; the upper one is `first + 1`.
        share: weight of the upper pixel, 0 to 1; the lower one has `1 - share`.
        first_inside, second_inside: bool, whether each of the two lies in the image.
        slope: d pixels / d position, 0 where the position was NaN, beyond 1e4, or clipped by the padding.
    """
    known = position == position
    slope = tl.where(known & (tl.abs(position) <= _FAR), 0.5, 0.0).to(position.dtype)
    position = tl.where(known, position, -_FAR)
    position = tl.minimum(tl.maximum(position, -_FAR), _FAR)
    if ALIGN_CORNERS:
        pixel = (position + 1.0) * 0.5 * (size - 1)
        slope *= size - 1
    else:
        pixel = ((position + 1.0) * size - 1.0) * 0.5
        slope *= size
    if PADDING == "zeros":
        # Two pixels outside is as good as any distance outside, and fits an int32 at every size.
        pixel = tl.minimum(tl.maximum(pixel, -2.0), size + 1.0)
    else:
        if PADDING == "reflection":
            # The mirrors: at the outermost pixel centres, or at their outer edges.
            low = 0.0 if ALIGN_CORNERS else -0.5
            span = tl.maximum(size - 1, 1) if ALIGN_CORNERS else size
            distance = tl.abs(pixel - low)
            flips = tl.floor(distance / span)
            rest = distance - flips * span
            odd = flips != 2.0 * tl.floor(flips * 0.5)
            slope = tl.where((pixel < low) != odd, -slope, slope)
            pixel = low + tl.where(odd, span - rest, rest)
        slope = tl.where((pixel > 0.0) & (pixel < size - 1), slope, 0.0)
        pixel = tl.minimum(tl.maximum(pixel, 0.0), size - 1.0)
    lower = tl.floor(pixel)
    first = lower.to(tl.int32)
    first_inside = (first >= 0) & (first < size)
    second_inside = (first >= -1) & (first < size - 1)
    return first, pixel - lower, first_inside, second_inside, slope


@triton.jit
def load_corners(pointers, stride_y, stride_x, left, right, top, bottom, dtype: tl.constexpr):
    """Read the 2 x 2 pixels whose north-west one is at `pointers`, 0 for those outside the image.

    left, right, top, bottom: bool, whether the column or row is to be read; each broadcasts against `pointers`.
    Returns north-west, north-east, south-west, south-east in `dtype`.
    """
    nw = tl.load(pointers, mask=top & left, other=0.0).to(dtype)
    ne = tl.load(pointers + stride_x, mask=top & right, other=0.0).to(dtype)
    sw = tl.load(pointers + stride_y, mask=bottom & left, other=0.0).to(dtype)
    se = tl.load(pointers + stride_y + stride_x, mask=bottom & right, other=0.0).to(dtype)
    return nw, ne, sw, se


@triton.jit
def interpolate(nw, ne, sw, se, x_share, y_share):
    """The sample: each corner by its weight, so that infinities and NaN spread exactly as they do in PyTorch."""
    north = nw * ((1.0 - x_share) * (1.0 - y_share)) + ne * (x_share * (1.0 - y_share))
    return north + sw * ((1.0 - x_share) * y_share) + se * (x_share * y_share)


@triton.jit
def corner_slopes(nw, ne, sw, se, x_share, y_share):
    """Derivatives of the sample with respect to x and y in pixels; multiply by the slopes of `axis_taps`."""
    along_x = (1.0 - y_share) * (ne - nw) + y_share * (se - sw)
    along_y = (1.0 - x_share) * (sw - nw) + x_share * (se - ne)
    return along_x, along_y


@triton.jit
def through_slope(gradient, slope):
    """gradient * slope, and 0 where the slope is 0 even if the gradient is not finite."""
    return tl.where(slope != 0.0, gradient * slope, 0.0)
