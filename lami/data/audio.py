"""The sound of one video carried over to another."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from lami.data.files import check_readable
from lami.errors import DataError

_COPIED_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"})
"""Codecs that players understand in the containers that we write; others are encoded again as AAC."""

_NOT_IN_MOV = frozenset({"flac", "opus"})
"""Codecs that FFmpeg says it can write to mov, and then refuses."""

_Piece: TypeAlias = av.Packet | av.AudioFrame


def carry_audio(source: Path, output: OutputContainer) -> AudioTrack | None:
    """The sound of `source`, ready to be written into `output`; None if it has none."""
    check_readable(source)
    try:
        container = av.open(f"file:{source}")  # with the prefix no name is taken for an address
    except av.FFmpegError as error:
        raise DataError(f"{source} is not a file with sound ({error.strerror}), give a video or audio file") from error
    if not container.streams.audio:
        container.close()
        return None
    return AudioTrack(source, container, output)


class AudioTrack:
    """First audio stream of a file, written into `output` bit by bit as the video advances.

    Packets are copied, so nothing is lost; a codec that the container cannot hold is encoded as AAC, mono or
    stereo at 48 kHz. Sound keeps its place relative to the first video frame of its file.
    """

    def __init__(self, source: Path, container: InputContainer, output: OutputContainer) -> None:
        self._source = source
        self._input = container
        self._output = output
        stream = self._input.streams.audio[0]
        codec = stream.codec.canonical_name
        refused = _NOT_IN_MOV if output.format.name == "mov" else frozenset()
        self._copied = codec in _COPIED_CODECS - refused and codec in output.supported_codecs
        self._stream: AudioStream
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            layout = "stereo" if stream.codec_context.channels > 1 else "mono"
            self._stream = output.add_stream("aac", rate=48000, layout=layout)
        self._start = _video_start(self._input)
        self._pieces: Iterator[_Piece] = self._input.demux(stream) if self._copied else self._input.decode(stream)
        self._next = self._read()

    def advance(self, until: Fraction) -> None:
        """Write the sound that starts before `until` (seconds since the first video frame)."""
        while self._next is not None and self._time(self._next) < until:
            self._write(self._next)
            self._next = self._read()

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if not self._copied:
            self._output.mux(self._stream.encode(None))

    def close(self) -> None:
        self._input.close()

    def _read(self) -> _Piece | None:
        try:
            # A packet without a time marks the end of the stream.
            return next((piece for piece in self._pieces if piece.pts is not None), None)
        except av.FFmpegError as error:
            raise DataError(f"the sound of {self._source} is damaged ({error.strerror}), convert the file") from error

    def _time(self, piece: _Piece) -> Fraction:
        return (piece.pts or 0) * _time_base(piece) - self._start

    def _write(self, piece: _Piece) -> None:
        shift = round(self._start / _time_base(piece))
        piece.pts = (piece.pts or 0) - shift
        if isinstance(piece, av.Packet):
            if piece.dts is not None:
                piece.dts -= shift
            piece.stream = self._stream
            self._output.mux(piece)
        else:
            self._output.mux(self._stream.encode(piece))


def _video_start(container: InputContainer) -> Fraction:
    for stream in container.streams.video:
        if stream.start_time is not None and stream.time_base is not None:
            return stream.start_time * stream.time_base
    return Fraction(0)


def _time_base(piece: _Piece) -> Fraction:
    assert piece.time_base is not None  # demuxer and decoder always set it
    return piece.time_base
