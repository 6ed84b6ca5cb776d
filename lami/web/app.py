"""The page: what is on it and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import gradio as gr

from lami.model import LAMI
from lami.web import words
from lami.web.examples import Example
from lami.web.handlers import Handlers
from lami.web.inputs import unopened
from lami.web.line import Line

_CONSENT = (
    "Use pictures only of people who agreed. The result says in its metadata that it was made by lami. "
    "Videos may last {seconds:g} seconds, files have {megabytes:g} MB. They go to no other computer; what was uploaded "
    "and made is removed after {minutes:g} minutes."
)
_PARTS = [("all of it", "none"), ("the middle", "centre"), ("around the figure", "keypoints")]
_RATES = (10, 12, 15, 24, 25, 30, 50, 60)
_SMALL = 256
"""Models whose shorter side is below that make images that are enlarged unless somebody says otherwise."""
_FIELD_HEIGHT = 240
_VIDEO_HEIGHT = 400
_SECONDS_BETWEEN_SWEEPS = 60


def build(line: Line, examples: Sequence[Example], note: str = "") -> gr.Blocks:
    """The page, not started yet.

    Args:
        line: where its animations queue.
        examples: pairs of files to try, in a folder that Gradio may read.
        note: what visitors should know of the model, in Markdown.
    """
    handlers = Handlers(line)
    age = round(60 * line.limits.minutes)
    with gr.Blocks(title="lami", analytics_enabled=False, delete_cache=(_SECONDS_BETWEEN_SWEEPS, age)) as page:
        gr.HTML("<h1>lami</h1><p>Moves the figure of a picture as a video shows.</p>", elem_id="header", padding=False)
        if note:
            gr.Markdown(note, elem_id="note")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=360):
                inputs, animate, cancel = _controls(line.model, examples)
                gr.Markdown(_CONSENT.format(**asdict(line.limits)), elem_id="consent")
            with gr.Column(scale=6, min_width=360):
                status = gr.HTML(words.status("ready", words.READY), elem_id="status", padding=False)
                tabs, videos = _videos()
                name = gr.State(None)
                with tabs, gr.Tab("Look inside", id="inside", elem_id="inside") as inside:
                    number, pictures = _inside()

        def begin() -> tuple[gr.Button, gr.Button, gr.Tabs]:
            return gr.Button(interactive=False), gr.Button(interactive=True), gr.Tabs(selected="result")

        def end() -> tuple[gr.Button, gr.Button]:
            return gr.Button(interactive=True), gr.Button(interactive=False)

        hidden = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        started = animate.click(begin, None, [animate, cancel, tabs], **hidden)
        made = started.then(
            handlers.animate,
            inputs,
            [status, *videos, number, name],
            show_progress="hidden",
            concurrency_limit=None,  # the line lets one in at a time, and says how many come first
            api_name="animate",
        )
        for ended in (made.success, made.failure):  # `then` is not called after an error
            ended(end, None, [animate, cancel], **hidden)
        cancel.click(handlers.cancel, None, None, show_progress="hidden", queue=False, api_name="cancel")
        for event, visibility in ((number.input, "public"), (inside.select, "private")):
            event(
                handlers.inspect,
                [name, number],
                pictures,
                show_progress="minimal",
                trigger_mode="always_last",
                concurrency_id="inspect",
                api_name=f"inspect{'' if visibility == 'public' else '_selected'}",
                api_visibility=visibility,
            )
        page.unload(handlers.cancel)
    page.queue(max_size=100)
    return page


def _controls(model: LAMI, examples: Sequence[Example]) -> tuple[list[gr.components.Component], gr.Button, gr.Button]:
    """Inputs of `Handlers.animate` in their order, and the buttons."""
    with gr.Row():
        picture = unopened(
            gr.Image(
                label="Picture",
                sources=["upload", "webcam", "clipboard"],
                buttons=["fullscreen"],
                height=_FIELD_HEIGHT,
                elem_id="picture",
            )
        )
        movement = unopened(
            gr.Video(
                label="Movement",
                sources=["upload", "webcam"],
                buttons=[],
                include_audio=True,
                height=_FIELD_HEIGHT,
                elem_id="movement",
            )
        )
    with gr.Row():
        mode = gr.Radio(
            _modes(model),
            value="relative",
            label="Mode",
            info="Follow: what changes in the video changes in the picture. Copy: the pose of the video.",
            elem_id="mode",
        )
        strength = gr.Slider(
            0, 2, 1, step=0.05, label="Strength", info="0 stands still, 1 moves as the video.", elem_id="strength"
        )
    with gr.Row():
        animate = gr.Button("Animate", variant="primary", scale=3, elem_id="animate")
        cancel = gr.Button("Cancel", interactive=False, scale=1, elem_id="cancel")
    if examples:
        _offer(examples, picture, movement)
    with gr.Accordion("More settings", open=False, elem_id="more"):
        more = _more_settings(model)
    return [picture, movement, mode, strength, *more], animate, cancel


def _offer(examples: Sequence[Example], picture: gr.Image, movement: gr.Video) -> None:
    """Small images that fill the fields."""
    files = [(str(example.picture), str(example.video)) for example in examples]
    gallery = gr.Dataset(
        label="Or try one of these: picture, and two frames of the movement",
        components=["image"],
        samples=[[str(example.preview)] for example in examples],
        type="index",
        layout="gallery",
        elem_id="examples",
    )
    gallery.keep_in_cache.update(path for pair in files for path in pair)  # for the next visitor
    gallery.click(
        lambda number: files[number],
        gallery,
        [picture, movement],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )


def _more_settings(model: LAMI) -> list[gr.components.Component]:
    """Frames a second, size, crops, selector, times, steadiness, best frame, smoothing, label."""
    interpolation = model.interpolation
    height, width = model.config.image_size
    with gr.Row():
        fps = gr.Dropdown(
            [("as in the video", "keep"), *((f"{rate}", rate) for rate in _RATES)],
            value="keep",
            label="Frames a second",
            elem_id="fps",
        )
        size = gr.Dropdown(
            [
                (f"as the model makes it, {width} x {height} at most", "model"),
                ("as large as the picture", "source"),
                ("as large, with the picture's detail", "source-detail"),
            ],
            value="source" if min(height, width) < _SMALL else "model",
            label="Size of the result",
            elem_id="size",
        )
    with gr.Row():
        crop, crop_driving = (
            gr.Dropdown(_PARTS, value="none", label=f"Part of the {what} to use", elem_id=elem_id)
            for what, elem_id in (("picture", "crop"), ("video", "crop-driving"))
        )
    with gr.Row(visible=interpolation.enabled):
        selector = gr.Dropdown(
            [("best match", "eq4"), ("always the same", "fixed"), ("at random", "random")],
            value=interpolation.selector,
            label="Choice among the pictures in between",
            info="'Always the same' takes exactly one time.",
            elem_id="selector",
        )
        choices = sorted({*(n / 10 for n in range(1, 10)), *interpolation.times})
        times = gr.CheckboxGroup(
            [(f"{t:g}", t) for t in choices],
            value=list(interpolation.times),
            label="Times of the pictures in between",
            info="0 is the picture's own pose, 1 that of the video.",
            elem_id="times",
        )
    with gr.Row():
        steady = gr.Checkbox(
            True, label="Calm choice", info="Changes it only for a clearly better match.", elem_id="steady"
        )
        best_frame = gr.Checkbox(
            True,
            label="Search the best start",
            info="Follow: measure changes from the video frame whose pose is nearest to the picture's.",
            elem_id="best-frame",
        )
    with gr.Row():
        smooth = gr.Checkbox(
            False, label="Smooth movement", info="Takes the trembling out of the video's keypoints.", elem_id="smooth"
        )
        label = gr.Checkbox(
            False, label="Visible note", info="Writes into the frames that they are generated.", elem_id="label"
        )
    return [fps, size, crop, crop_driving, selector, times, steady, best_frame, smooth, label]


def _modes(model: LAMI) -> list[tuple[str, str]]:
    modes = [("Follow", "relative"), ("Copy", "absolute")]
    return modes if model.avd is None else [*modes, ("Copy, keep the body's shape", "avd")]


def _videos() -> tuple[gr.Tabs, list[gr.components.Component]]:
    """Tabs with the result; result, comparison and download."""
    with gr.Tabs(selected="result", elem_id="tabs") as tabs:
        with gr.Tab("Result", id="result"):
            result = gr.Video(
                label="Result", interactive=False, autoplay=True, loop=True, height=_VIDEO_HEIGHT, elem_id="result"
            )
            download = gr.DownloadButton("Download the video", interactive=False, elem_id="download")
        with gr.Tab("Side by side", id="comparison"):
            comparison = gr.Video(
                label="Picture, movement and result", interactive=False, height=_VIDEO_HEIGHT, elem_id="comparison"
            )
    return tabs, [result, comparison, download]


def _inside() -> tuple[gr.Slider, list[gr.components.Component]]:
    """Which frame, and its pictures."""
    number = gr.Slider(1, 2, 1, step=1, label="Frame", interactive=False, elem_id="number")
    pictures = []
    for elem_id, explanation in (
        (
            "strip",
            "**From picture to movement.** Dots are keypoints; the framed picture in between was chosen, and the "
            "result was made from it.",
        ),
        (
            "motion",
            "**Motion.** The flow says where each place comes from: hue is direction, strength is distance. Where "
            "*kept* is dark there was nothing to take, and something was painted.",
        ),
        (
            "contributions",
            "**Contributions.** White where a group of keypoints decides about the flow; the first map is that of the "
            "background.",
        ),
    ):
        gr.Markdown(explanation, elem_classes="explanation")
        picture = gr.Image(
            show_label=False,
            interactive=False,
            buttons=["fullscreen", "download"],
            elem_id=elem_id,
            elem_classes="inside",
        )
        pictures.append(picture)
    return number, pictures
