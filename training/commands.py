"""`lookdev dataset`: look after the images and captions that a training starts from.

The `lookdev` command finds this group by name when it runs (pipeline/cli.py). Torch is loaded only for the
models that look at pictures: captioning, a detector, upscaling.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from pipeline.errors import DatasetError, ModelError
from training.curate.findings import Finding, has_errors
from training.schema import ConceptKind, read_dataset_file

EXIT_FAULTY = 2  # bad input: the dataset has errors
FilePath = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def dataset() -> None:
    """Look after training images: check captions, see what is covered, bring in kohya's folders."""


@dataset.command()
@click.argument("dataset_file", type=FilePath)
@click.option("--fix", is_flag=True, help="Show what words alone can mend, as a diff, and ask to write it.")
@click.option("--yes", is_flag=True, help="With --fix: write without asking.")
def lint(dataset_file: Path, fix: bool, yes: bool) -> None:
    """Check the captions of DATASET_FILE.

    Errors spoil a training (exit code 2), warnings should be looked at.
    """
    from training.curate.fix import apply, propose
    from training.curate.lint import lint_dataset
    from training.curate.scan import scan
    from training.curate.tokens import load_tokens

    if yes and not fix:
        raise DatasetError("--yes: goes with --fix, which was not given; add it, or take --yes out")
    file = read_dataset_file(dataset_file)
    try:
        tokens = load_tokens(dataset_file, file)
    except ModelError as error:
        click.echo(f"note: tokens are not counted: {error}", err=True)
        tokens = None
    if fix:
        changes = propose(scan(dataset_file, file))
        click.echo("".join(change.diff() for change in changes), nl=False)
        if changes and _agreed(f"Write {_counted(len(changes), 'caption')}?", yes):
            apply(changes)
            click.echo(f"{_counted(len(changes), 'caption')} written")
        elif not changes:
            click.echo("nothing that words alone can mend")
    _report(dataset_file, lint_dataset(dataset_file, file, tokens=tokens))


@dataset.command()
@click.argument("dataset_file", type=FilePath)
@click.option("--sheet", type=FilePath, help="Contact sheet, PNG; default: out/audit/<name>.png.")
@click.option("--model", help="Image model (DINOv2, CLIP ...): a folder, or a hub id that is in the cache.")
def audit(dataset_file: Path, sheet: Path | None, model: str | None) -> None:
    """Show what the images of DATASET_FILE cover and which do not belong.

    Who is on them is compared by the stage's own recogniser in its renders; other images are ranked by an
    image model, if one is at hand.

    Ends with what to shoot and what to drop. Exit code 2 if there are errors.
    """
    from rich.console import Console

    from training.curate.audit import Eyes, audit_dataset, needs_detector, to_do
    from training.curate.detect import find_detector
    from training.curate.features import Features, find_features, load_features
    from training.curate.screen import coverage_table, write_coverage
    from training.resolve import find_base

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise DatasetError(f"--sheet {sheet}: expected a name that ends in .png")
    file = read_dataset_file(dataset_file)
    family, _ = find_base(dataset_file, file)
    detect = None
    if needs_detector(dataset_file, file):
        try:
            detect = find_detector()
        except ModelError as error:
            click.echo(f"note: views by the captions' words where there are no joints: {error}", err=True)

    @functools.cache
    def features() -> Features | None:
        if model is not None:
            return load_features(model)
        with contextlib.suppress(ModelError):  # the table says so
            return find_features()
        return None

    audits = audit_dataset(
        dataset_file,
        file,
        size=file.train.size or family.default_size,
        bucket_step=family.bucket_step if file.train.buckets else 0,
        eyes=Eyes(detect, features),
    )
    if model is not None and not features.cache_info().currsize:
        click.echo(f"note: --model {model}: not used; no character's images here are ranked by it", err=True)
    console = Console()
    for each in audits:
        console.print(coverage_table(each))
        shoot, drop = to_do(each)
        for title, lines in (("shoot", shoot), ("drop or look at", drop)):
            for line in lines or ["nothing"]:
                click.echo(f"{title}: {line}")
    if any(each.images for each in audits):
        picture = sheet or Path("out") / "audit" / f"{file.name}.png"
        write_coverage(picture, audits)
        click.echo(f"{picture}: the images by view")
    _report(dataset_file, [finding for each in audits for finding in each.findings])


@dataset.command()
@click.argument("dataset_file", type=FilePath)
@click.option("--template", help="Comma-separated; fields {class} {trigger} {framing} {view} {light}.")
@click.option("--model", help="Captioning model (BLIP ...): a folder, or a hub id that is in the cache.")
@click.option("--plain", is_flag=True, help="By the template alone, without a captioning model.")
@click.option("--yes", is_flag=True, help="Write without asking.")
def caption(dataset_file: Path, template: str | None, model: str | None, plain: bool, yes: bool) -> None:
    """Write captions for images of DATASET_FILE that have none.

    Says what is known (view and framing from joints, light from the pixels), and behind it what a captioning
    model sees, if one is at hand; the trigger goes in, invariants stay out. Captions that are there stay as
    they are. Shows all of them first.
    """
    from training.curate.audit import needs_detector
    from training.curate.caption import DEFAULT_TEMPLATE, propose_captions, write_captions
    from training.curate.describe import USUAL_MODEL, load_captioner
    from training.curate.detect import find_detector
    from training.curate.tokens import load_tokens

    file = read_dataset_file(dataset_file)
    describe = tokens = None
    if not plain:
        try:
            describe = load_captioner(model or USUAL_MODEL)
        except ModelError as error:
            if model is not None:
                raise
            click.echo(f"note: by the template alone: {error}", err=True)
    detect = None
    if needs_detector(dataset_file, file):
        with contextlib.suppress(ModelError):  # then views stay out of the captions, as the audit tells
            detect = find_detector()
    if describe is not None:
        with contextlib.suppress(ModelError):  # not counted: lint says so
            tokens = load_tokens(dataset_file, file)
    proposals = propose_captions(
        dataset_file,
        file,
        template=DEFAULT_TEMPLATE if template is None else template,
        describe=describe,
        detect=detect,
        tokens=tokens,
    )
    for proposal in proposals:
        click.echo(f"{proposal.path}: {proposal.caption}")
        for note in proposal.notes:
            click.echo(f"  note: {note}")
    if not proposals:
        click.echo("every image has its caption")
    elif _agreed(f"Write {_counted(len(proposals), 'caption')}?", yes, what="caption"):
        write_captions(proposals)
        click.echo(
            f"{_counted(len(proposals), 'caption')} written; add what only an eye can tell: action, place"
        )


@dataset.command()
@click.argument("film", type=FilePath)
@click.option("--out", type=FilePath, help="Folder for the new dataset; default: out/datasets/<film>.")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="How many images.")
def capture(film: Path, out: Path | None, count: int) -> None:
    """Take images that differ out of FILM.

    FILM is a video, a folder of frames or a shot. Taken are sharp frames inside its shots, no two alike,
    spread over light, background, framing and (where there are joints) view. Writes the images, a contact
    sheet and a dataset.toml to fill in.
    """
    from pipeline.shot import open_shot
    from training.curate.capture import capture as take
    from training.curate.detect import find_detector

    shot = open_shot(film)
    place = out or Path("out") / "datasets" / shot.name
    detect = None
    if "joints" not in shot.passes:
        try:
            detect = find_detector()
        except ModelError as error:
            click.echo(f"note: not spread over views, the film has no joints: {error}", err=True)
    done = take(shot, place, count=count, detect=detect)
    passed = ", ".join(f"{number} {why}" for why, number in done.film.passed_over.items())
    click.echo(
        f"{film}: {_counted(shot.num_frames, 'frame')} in {_counted(len(done.film.cuts), 'shot')}; "
        f"passed over: {passed or 'none'}"
    )
    if len(done.images) < count:
        click.echo(f"note: only {len(done.images)} of {count}: the rest are near copies of these")
    click.echo(f"{done.sheet}: the {_counted(len(done.images), 'image')} at a glance")
    click.echo(f"{done.dataset}: fill in model, trigger and invariants, then lookdev dataset audit")


@dataset.command()
@click.argument("dataset_file", type=FilePath)
@click.option("--out", type=FilePath, required=True, help="Folder for the prepared dataset.")
@click.option("--crop/--no-crop", default=True, show_default=True, help="Cut characters and objects out.")
@click.option("--background", metavar="COLOUR", help="Put this behind the subject: a name or #rrggbb.")
@click.option("--matte", "network", help="rembg's network, or an .onnx file; default: masks, else u2net.")
@click.option("--upscale", type=FilePath, help="Enlarge what is too small by this model of spandrel's.")
@click.option("--allow-pickle", is_flag=True, help="Take --upscale from a .pth file.")
def prepare(
    dataset_file: Path,
    out: Path,
    crop: bool,
    background: str | None,
    network: str | None,
    upscale: Path | None,
    allow_pickle: bool,
) -> None:
    """Make DATASET_FILE ready to train, in a new folder.

    Cuts images around their subject (by mask, joints, a detector or a matte) and to aspect buckets, without
    enlarging; captions, masks, joints and control pictures follow. The originals stay as they are.
    """
    from training.curate.audit import needs_detector
    from training.curate.detect import find_detector
    from training.curate.matte import USUAL_NETWORK, load_matte
    from training.curate.prepare import Settings, colour, sizes
    from training.curate.prepare import prepare as make_ready
    from training.curate.upscale import load_upscaler
    from training.resolve import find_base

    file = read_dataset_file(dataset_file)
    behind = None if background is None else colour(background)
    family, _ = find_base(dataset_file, file)
    detect = matte = None
    if network is not None or (background and any(each.masks is None for each in file.concept)):
        matte = load_matte(network or USUAL_NETWORK)
    if crop and matte is None and needs_detector(dataset_file, file):
        try:
            detect = find_detector()
        except ModelError as error:
            click.echo(f"note: subjects without mask or joints are not cut around: {error}", err=True)
    settings = Settings(
        size=file.train.size or family.default_size,
        step=family.bucket_step if file.train.buckets else 0,
        crop=crop,
        background=behind,
        matte=matte,
        upscaler=None if upscale is None else load_upscaler(upscale, allow_pickle=allow_pickle),
        detect=detect,
    )
    done = []
    for each in make_ready(dataset_file, file, out, settings):
        click.echo(str(each))
        done.append(each)
    click.echo(f"{out / dataset_file.name}: {len(done)} images, {sizes(done)}; see {out / 'prepare.json'}")


@dataset.command("import")
@click.argument("source", type=FilePath)
@click.option("--out", type=FilePath, required=True, help="Folder for the new dataset.")
@click.option("--name", help="Name of the dataset; default: the folder's.")
@click.option(
    "--kind",
    type=click.Choice(["character", "place", "style", "object"]),
    default="character",
    show_default=True,
    help="What the concepts are; edit dataset.toml where they differ.",
)
@click.option("--caption", "suffix", type=click.Choice([".txt", ".caption"]), help="Which captions to use.")
def import_(source: Path, out: Path, name: str | None, kind: ConceptKind, suffix: str | None) -> None:
    """Bring in a dataset of kohya's sd-scripts.

    SOURCE is a folder of N_concept folders, one of these, or kohya's dataset TOML. All that is read is said,
    and all that is not; the originals stay as they are.
    """
    from training.curate.importing import echo, joined, write_import
    from training.curate.kohya import read_kohya

    concepts = joined(read_kohya(source, caption_suffix=suffix))
    for line in echo(concepts):
        click.echo(line)
    click.echo(f"{write_import(concepts, out, name=name or out.resolve().name, kind=kind)}: written")


def _agreed(question: str, yes: bool, *, what: str = "--fix") -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise DatasetError(
            f"{what}: nothing was written, nobody can be asked here; add --yes to write what is shown"
        )
    return click.confirm(question)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _report(path: Path, findings: Iterable[Finding]) -> None:
    """Print findings, a line each, and their number; exit code 2 if there is an error among them."""
    findings = list(findings)
    for finding in findings:
        click.secho(finding.level, fg="red" if finding.level == "error" else "yellow", nl=False)
        click.echo(f" {finding}")
    errors = sum(finding.level == "error" for finding in findings)
    click.echo(f"{path}: {_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}")
    if has_errors(findings):
        raise SystemExit(EXIT_FAULTY)
