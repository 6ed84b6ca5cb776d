from __future__ import annotations

from pathlib import Path

from lami.data import VideoReader, read_image
from lami.web.examples import write_examples
from lami.web.limits import Limits


def test_examples_are_within_the_limits(tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "examples")
    assert len(examples) == 3
    for example in examples:
        Limits().check_source(example.picture)
        Limits().check_driving(example.video)
        assert read_image(example.picture).shape == (256, 256, 3)
        assert read_image(example.preview).shape == (256, 768, 3)
    with VideoReader(examples[0].video) as own:
        first = next(iter(own)).image
    assert abs(first.astype(int) - read_image(examples[0].picture)).mean() < 3
    assert examples[1].video != examples[0].video
