"""Training pairs and test clips as tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from lami.configs.schema import DataConfig
from lami.data.augmentation import augment, resize
from lami.data.clips import AnnotatedClip, Clip
from lami.data.images import to_tensor
from lami.data.sources import ClipSource, group_by_identity
from lami.errors import DataError

_log = logging.getLogger(__name__)

_ORDER, _DRAW = 0, 1  # separate streams of random numbers


class TrainingPair(TypedDict):
    source: torch.Tensor
    """float32 (3, H, W) in [0, 1]."""
    driving: torch.Tensor
    """As `source`; the later of the two frames unless augmentation exchanged them."""
    name: str
    """Clip that the frames come from."""
    control_points: NotRequired[torch.Tensor]
    """float32 (2, K, N, 2), true ones of source and driving; if asked for."""


class TrainingPairs(Dataset[TrainingPair]):
    """Two random frames of a random clip, augmented, indexed by the number of the draw since training began.

    Draw n is the same whatever was drawn before and whichever worker draws it, so a run resumes exactly by going on at
    its draw number (see `DrawBatches`). Epoch e is the draws e * epoch_length to (e + 1) * epoch_length - 1, in which
    every item - a clip, or an identity with `config.id_sampling` - comes up `config.repeats` times in random order.
    Frames are drawn with replacement and sorted in time; only these two are decoded. With `config.overfit` the first
    draws repeat.

    image_size: (height, width) of the result; frames of another shape are resized, without keeping their aspect ratio.
    annotated: add the true control points of the frames, which are wrong after augmentation.
    seed: non-negative. A clip that cannot be read is reported once by `logging` and another takes its place.
    Raises `DataError` if there are no clips, or none can be read.
    """

    def __init__(
        self,
        clips: Sequence[ClipSource],
        config: DataConfig,
        image_size: tuple[int, int],
        seed: int = 0,
        annotated: bool = False,
    ) -> None:
        if not clips:
            raise DataError("there are no training clips, put some into the train folder of the data set")
        self._items = group_by_identity(tuple(clips)) if config.id_sampling else [(clip,) for clip in clips]
        self._config = config
        self._image_size = image_size
        self._seed = seed
        self._annotated = annotated
        self._reported: set[str] = set()
        self._order_of: tuple[int, np.ndarray] = (-1, np.empty(0))

    @property
    def epoch_length(self) -> int:
        """Draws in an epoch: items times repeats."""
        return len(self._items) * self._config.repeats

    def __getitem__(self, draw: int) -> TrainingPair:
        draw = int(draw) if self._config.overfit is None else int(draw) % self._config.overfit
        epoch, position = divmod(draw, self.epoch_length)
        item = int(self._order(epoch)[position] % len(self._items))
        # Where clips are damaged, the items in a random order; the first that can be read is taken.
        rng = np.random.default_rng((self._seed, _DRAW, draw))
        pair = self._read(item, rng)
        if pair is None:
            for substitute in rng.permutation(len(self._items)):
                pair = self._read(substitute, np.random.default_rng((self._seed, _DRAW, draw, substitute + 1)))
                if pair is not None:
                    break
            else:
                raise DataError(f"none of {len(self._items)} training clips can be read, see the warnings before this")
        return pair

    def _order(self, epoch: int) -> np.ndarray:
        if self._order_of[0] != epoch:
            rng = np.random.default_rng((self._seed, _ORDER, epoch))
            self._order_of = epoch, rng.permutation(self.epoch_length)
        return self._order_of[1]

    def _read(self, item: int, rng: np.random.Generator) -> TrainingPair | None:
        clips = self._items[item]
        clip = clips[rng.integers(len(clips))]
        try:
            opened = clip.open()
            first, last = sorted(rng.integers(len(opened), size=2).tolist())
            source, driving = opened.frames([first, last])
            if source.shape != driving.shape:
                raise DataError(f"{clip.name} has frames of different sizes, make them equal")
        except DataError as error:
            if clip.name not in self._reported:
                self._reported.add(clip.name)
                _log.warning("training clip %s is left out: %s", clip.name, error)
            return None
        pair = resize(augment(to_tensor(np.stack([source, driving])), self._config.augmentation, rng), self._image_size)
        drawn: TrainingPair = {"source": pair[0], "driving": pair[1], "name": clip.name}
        if self._annotated:
            assert isinstance(opened, AnnotatedClip)
            drawn["control_points"] = torch.from_numpy(opened.control_points([first, last])).float()
        return drawn


class DrawBatches(Sampler[list[int]]):
    """Batches of the draw numbers `start` to `stop` - 1 in order; shuffling is part of `TrainingPairs`.

    share: the part of a batch that this process draws, where several train together; by default all of it.
    """

    def __init__(self, start: int, stop: int, size: int, share: Callable[[range], range] = lambda draws: draws) -> None:
        self._firsts = range(start, stop, size)
        self._share = share

    def __len__(self) -> int:
        return len(self._firsts)

    def __iter__(self) -> Iterator[list[int]]:
        size, stop = self._firsts.step, self._firsts.stop
        return (list(self._share(range(first, min(first + size, stop)))) for first in self._firsts)


@dataclass(frozen=True)
class TestClip:
    """An open clip whose frames are handed out one by one."""

    __test__ = False  # not a test case for pytest

    clip: Clip
    image_size: tuple[int, int]

    @property
    def name(self) -> str:
        """What messages and results call it."""
        return self.clip.name

    @property
    def rate(self) -> Fraction | None:
        """Frames a second, None if unknown."""
        return self.clip.rate

    def __len__(self) -> int:
        return len(self.clip)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """All frames, float32 (3, H, W) in [0, 1] at `image_size`; at no time is more than one in memory."""
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> torch.Tensor:
        """One frame, float32 (3, H, W) in [0, 1] at `image_size`."""
        return resize(to_tensor(self.clip.frames([index])[0])[None], self.image_size)[0]


class TestClips(Sequence[TestClip]):
    """Test clips in order, opened on access. A clip that cannot be read raises `DataError` naming it."""

    __test__ = False

    def __init__(self, clips: Sequence[ClipSource], image_size: tuple[int, int]) -> None:
        if not clips:
            raise DataError("there are no test clips, put some into the test folder of the data set")
        self._clips = tuple(clips)
        self._image_size = image_size

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> TestClip:  # type: ignore[override]  # slices are of no use here
        return TestClip(self._clips[index].open(), self._image_size)
