"""A bt.709 test card decoded, encoded by lookdev and decoded again: colours, tags, frames, rate and sound.

    python -m benchmarks.round_trip [--size 1280x720] [--seconds 1]

The card is made by ffmpeg alone (colour bars and moving patterns, 4:2:0, tagged bt.709), so that nothing of
lookdev's own encoder is in the reference.
"""

from __future__ import annotations

import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import click
import numpy as np

from benchmarks.table import Value, markdown
from pipeline.output import encode_video
from pipeline.shot import Shot, iterate_frames, open_shot
from pipeline.shot.video import ffmpeg_path

RATES = tuple(Fraction(rate) for rate in ("24000/1001", "24", "25", "30000/1001", "30", "60"))
WINDOW = 8
WANTED_ERROR = 1.5  # levels of 255, mean
SOUND_RATE = 48_000
TAGS = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"


def make_card(path: Path, fps: Fraction, *, size: str, num_frames: int) -> Shot:
    """Colour bars over a moving test pattern with a tone, by ffmpeg: lossless H.264 and AAC."""
    rate = f"{fps.numerator}/{fps.denominator}"
    seconds = float(num_frames / fps)
    picture = f"[0:v]crop=iw:ih/2[top];[1:v]crop=iw:ih/2[low];[top][low]vstack,format=gbrp,{convert()}[v]"
    command = [ffmpeg_path(), "-v", "error", "-y"]
    for source in ("smptehdbars", "testsrc2"):
        command += ["-f", "lavfi", "-i", f"{source}=size={size}:rate={rate}"]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate={SOUND_RATE}:duration={seconds:.6f}"]
    command += ["-filter_complex", picture, "-map", "[v]", "-map", "2:a", "-frames:v", str(num_frames)]
    command += ["-c:v", "libx264", "-qp", "0", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return open_shot(path)


def convert() -> str:
    """RGB to 4:2:0 with the BT.709 matrix, said so."""
    return (
        f"scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p,{TAGS}"
    )


def sound_seconds(path: Path) -> float:
    """The length of a file's sound, by decoding it."""
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-i", str(path), "-map", "0:a:0"]
    command += ["-f", "s16le", "-ac", "1", "-ar", str(SOUND_RATE), "-"]
    return len(subprocess.run(command, check=True, capture_output=True).stdout) / 2 / SOUND_RATE


def round_trip(card: Shot, path: Path) -> dict[str, Value]:
    """One row: the card against what comes back."""
    encode_video(iterate_frames(card, WINDOW), path, fps=card.fps, audio=card.audio)
    back = open_shot(path)
    pairs = zip(iterate_frames(card, WINDOW), iterate_frames(back, WINDOW), strict=True)
    apart = [np.abs(one.astype(np.int16) - other).mean(axis=(1, 2, 3)) for one, other in pairs]
    errors = np.concatenate(apart)
    seconds = float(back.num_frames / back.fps)
    off = sound_seconds(path) - seconds
    right = (
        float(errors.mean()) <= WANTED_ERROR
        and back.colours == card.colours
        and (back.fps, back.num_frames) == (card.fps, card.num_frames)
        and abs(off) <= 1.0 / float(card.fps)
    )
    return {
        "fps": f"{card.fps} ({float(card.fps):.3f})",
        "fps back": str(back.fps),
        "frames": card.num_frames,
        "frames back": back.num_frames,
        "mean error / 255": float(errors.mean()),
        "worst frame": float(errors.max()),
        "tags": card.colours,
        "tags back": back.colours,
        "sound off, ms": 1000 * off,
        "right": "yes" if right else "NO",
    }


@click.command()
@click.option("--size", default="1280x720", show_default=True, help="Pixels of the card.")
@click.option("--seconds", default=1.0, show_default=True, help="Its length.")
def main(size: str, seconds: float) -> None:
    """Print one row for each rate."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, fps in enumerate(RATES):
            card = make_card(
                Path(folder) / f"card_{number}.mp4", fps, size=size, num_frames=round(seconds * fps)
            )
            rows.append(round_trip(card, Path(folder) / f"back_{number}.mp4"))
    click.echo(markdown(rows))
    right = sum(row["right"] == "yes" for row in rows)
    click.echo(
        f"{right} of {len(rows)} right; wanted: mean error <= {WANTED_ERROR} / 255, tags kept, frames and "
        "rate exact, sound within a frame"
    )


if __name__ == "__main__":
    main()
