"""Reading, writing and drawing training pairs from images and video."""

from lami.data.augmentation import augment, resize
from lami.data.camera import Camera, Webcam, camera_number
from lami.data.clips import Clip, open_clip
from lami.data.dataset import DrawBatches, TestClip, TestClips, TrainingPair, TrainingPairs
from lami.data.files import check_output
from lami.data.images import IMAGE_SUFFIXES, WRITABLE_IMAGE_SUFFIXES, read_image, to_tensor, to_uint8, write_image
from lami.data.moving import Moving, is_still, open_moving
from lami.data.packing import pack
from lami.data.pairs import Pair, is_pattern, match_pairs, read_pairs
from lami.data.resampling import Resampled, parse_rate
from lami.data.shards import PackReport, PackSettings
from lami.data.sources import ClipSets, ClipSource, find_clips, list_clips
from lami.data.survey import ClipFacts, SetSurvey, survey
from lami.data.verification import verify
from lami.data.video import VIDEO_SUFFIXES, Frame, VideoReader
from lami.data.writer import WRITABLE_SUFFIXES, VideoWriter

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "WRITABLE_IMAGE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Camera",
    "Clip",
    "ClipFacts",
    "ClipSets",
    "ClipSource",
    "DrawBatches",
    "Frame",
    "Moving",
    "PackReport",
    "PackSettings",
    "Pair",
    "Resampled",
    "SetSurvey",
    "TestClip",
    "TestClips",
    "TrainingPair",
    "TrainingPairs",
    "VideoReader",
    "VideoWriter",
    "Webcam",
    "augment",
    "camera_number",
    "check_output",
    "find_clips",
    "is_pattern",
    "is_still",
    "list_clips",
    "match_pairs",
    "open_clip",
    "open_moving",
    "pack",
    "parse_rate",
    "read_image",
    "read_pairs",
    "resize",
    "survey",
    "to_tensor",
    "to_uint8",
    "verify",
    "write_image",
]
