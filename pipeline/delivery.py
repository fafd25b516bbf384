"""From styled frames to what is handed over: the video or sequence, and the record of how it was made."""

from __future__ import annotations

import functools
import time

from pipeline.files import file_digest, known_digest
from pipeline.journal import Journal
from pipeline.output import (
    Record,
    Review,
    VideoSettings,
    encode_video,
    input_digests,
    write_exr_sequence,
    write_record,
    write_review,
    write_sound,
)
from pipeline.plan import (
    Stamps,
    check_sources,
    input_files,
    model_files,
    parameters,
    plan_as_json,
    runs,
)
from pipeline.preset import Preset
from pipeline.shot import Shot
from pipeline.timeline import read_timeline

REVIEW = "review.html"
SEQUENCES = ("png", "exr")  # formats without a place for sound
MOST_LOOKS = 24  # an eased beat has one a frame; the page is to be read


def deliver(shot: Shot, preset: Preset, journal: Journal, sources: Stamps) -> None:
    """Make the result of a journal's frames, which are all there, and write record.json last.

    Raises ShotError where a file of the shot is no longer as in `sources`, OutputError.
    """
    check_sources(shot, journal.plan, sources)
    started = time.perf_counter()
    _make_result(shot, journal)
    journal.add_seconds({"output": time.perf_counter() - started})
    check_sources(shot, journal.plan, sources)  # the sound is read while it is encoded
    _write_review(shot, journal)
    _write_record(shot, preset, journal)


def _make_result(shot: Shot, journal: Journal) -> None:
    plan = journal.plan
    output = plan.output
    if output.format in SEQUENCES:
        if output.format == "exr":
            write_exr_sequence(journal.read_all(), journal.video, journal.sequence())
        if shot.audio is not None:
            write_sound(shot.audio, journal.sound, seconds=plan.num_frames / plan.fps)
        return
    settings = VideoSettings(
        crf=output.crf,
        scale=output.scale,
        codec=output.format,
        profile=output.profile,
        comment=parameters(plan, 0),
    )
    encode_video(journal.read_all(), journal.video, fps=plan.fps, audio=shot.audio, settings=settings)


def _write_review(shot: Shot, journal: Journal) -> None:
    plan = journal.plan
    pictures = shot.passes["rgb"]
    is_video = pictures.video is not None
    videos = [("source", pictures.files[0])] if is_video else []
    keys = _keys(journal)
    settings = [
        ("model", plan.model),
        ("method", plan.method),
        *([("key frames", f"{len(keys)} of {plan.num_frames}")] if keys else []),
        ("controls", ", ".join(control.kind for control in plan.controls) or "none"),
        ("LoRAs", ", ".join(lora.path.stem for lora in plan.loras) or "none"),
        ("result", journal.video.name),
    ]
    numbers = plan.frame_numbers
    review = Review(
        shot=plan.shot,
        fps=plan.fps,
        width=plan.width,
        height=plan.height,
        numbers=numbers,
        after=[journal.frame(index) for index in range(plan.num_frames)],
        before=() if is_video else pictures.files,
        videos=[*videos, ("styled", journal.video)],
        settings=settings,
        looks=[
            (f"{numbers[start]} to {numbers[stop - 1]}", parameters(plan, start))
            for start, stop in list(runs(plan.looks))[:MOST_LOOKS]
        ],
        notes=(*plan.notes, *journal.notes()),
        links=[(journal.video.name, journal.video), (journal.record.name, journal.record)],
        keys=keys,
        strip=journal.keys / "timeline.png" if keys else None,
    )
    write_review(journal.folder / REVIEW, review)


def _keys(journal: Journal) -> list[int]:
    """The frames that are keys, by method "keys"."""
    file = journal.timeline()
    stretches = () if file is None or journal.plan.method != "keys" else read_timeline(file)
    return sorted(key for stretch in stretches if stretch.method == "keys" for key in stretch.keys)


def _write_record(shot: Shot, preset: Preset, journal: Journal) -> None:
    plan = journal.plan
    weights = [lora.path for lora in plan.loras] + [embedding.path for embedding in plan.embeddings]
    weights += model_files(plan)
    sound = [] if shot.audio is None else [shot.audio]
    files = dict.fromkeys([*input_files(shot, plan), *sound, *preset.files])
    made = [journal.video, journal.frames, journal.folder / REVIEW]
    made += [journal.sound] if plan.output.format in SEQUENCES else []
    made += [journal.keys] if plan.method == "keys" else []
    digests = functools.partial(input_digests, base=shot.root)
    record = Record(
        shot=plan.shot,
        digest=plan.digest,
        num_frames=plan.num_frames,
        fps=plan.fps,
        inputs=digests(files, digest=file_digest) | digests(weights, digest=known_digest),
        settings=plan_as_json(plan),
        outputs=tuple(file.name for file in dict.fromkeys(made) if file.exists()),
        seconds={name: round(value, 3) for name, value in journal.seconds().items()},
        notes=(*plan.notes, *journal.notes()),
        machines=journal.machines(),
        denoised=round(journal.denoised() / plan.num_frames, 4),
    )
    write_record(journal.record, record)
