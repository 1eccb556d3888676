"""``kdedge export``: from a run, or any ONNX classifier, to ONNX files for the device."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]

MISSED = 3
"""Exit code when int8 was asked for and fp32 was written."""


def export(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Run directory that kdedge distill or train made.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8/--fp32-only", help="Quantise to int8 as well, or write the fp32 file alone.")
    ] = True,
    target: Annotated[
        str, typer.Option(help="Device: x86, arm64, jetson (TensorRT), web; auto is this machine's processor.")
    ] = "auto",
    float16: Annotated[
        bool, typer.Option("--float16", help="Write a float16 file, too; for GPUs (target jetson).")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to deploy; fp32 lies beside it. Default: into RUN; with --from, into this folder.",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Accuracy that int8 may lose, in points (0-100).")
    ] = 1.0,
    min_speedup: Annotated[
        float, typer.Option(help="Least speed of int8 against fp32 on this machine; 0 does not measure.")
    ] = 1.0,
    min_agreement: Annotated[
        float, typer.Option(metavar="SHARE", help="Least share of images with fp32's label, 0-1, whatever the drop.")
    ] = 0.9,
    search_minutes: Annotated[
        float, typer.Option(help="How long to look for a file that holds, leaving layers in float.")
    ] = 5.0,
    calibration: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="How activation ranges are chosen: minmax, average, percentile, entropy or mse; auto tries all and keeps "
            "the one that agrees best with fp32 on held-out images.",
        ),
    ] = "auto",
    vnni: Annotated[
        bool | None,
        typer.Option("--vnni/--no-vnni", help="x86: whether the device has VNNI; default: as this machine."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set; default: the target's.")] = None,
    ir_version: Annotated[int | None, typer.Option(help="ONNX file format; default: the target's.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images a run, 0 for any number; default: any, for jetson 1.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="An ONNX classifier of any origin, instead of RUN.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --from: images like those the device will see.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --from: class names, one a line or a JSON list.")
    ] = None,
    val: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --from: class folders to measure accuracy on.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="With --from: mean to subtract, 0-255, e.g. 0,0,0.")] = None,
    std: Annotated[
        str | None, typer.Option(help="With --from: deviation to divide by, 0-255, e.g. 255,255,255.")
    ] = None,
    color: Annotated[str | None, typer.Option(help="With --from: channel order, rgb (default) or bgr.")] = None,
    resize: Annotated[
        str | None, typer.Option(help="With --from: crop (default; short side, then centre) or squash.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="With --from: pixels, where the file does not fix them.")] = None,
    embedding: Annotated[str | None, typer.Option(help="With --from: tensor to give out as embedding.")] = None,
    output: Annotated[str | None, typer.Option(help="With --from: output that holds the classes.")] = None,
    name: Annotated[str, typer.Option(help="With --from: name in the card.")] = "",
    licence: Annotated[str, typer.Option(help="With --from: licence of the weights, in words.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export a student to ONNX, fp32 and int8, for a device, and verify both.

    Each file carries its labels, preprocessing and scores, and gives logits and the embedding. torch is compared with
    fp32 and fp32 with int8 on images that were not trained on. An int8 file that loses more than --max-drop points or
    is not --min-speedup times as fast gets its worst layers back in float; if that does not help, only fp32 is
    written, and the exit code is 3.

    \b
    Examples:
      kdedge export runs/first
      kdedge export runs/first --int8 --calibration mse --overwrite
      kdedge export runs/first --target jetson --float16
      kdedge export runs/first --fp32-only --out student.onnx --json
      kdedge export --from model.onnx --calibrate photos/ --labels labels.txt \\
          --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375
    """
    from kdedge.cli.export_source import foreign_options, refuse_foreign
    from kdedge.cli.export_words import lines, warnings
    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra
    from kdedge.errors import ExportError

    need_train_extra()
    from kdedge.export.guard import Limits
    from kdedge.export.recipe import ExportOptions
    from kdedge.export.sources import export_foreign, export_run
    from kdedge.export.targets import target_for

    if (run is None) == (source is None):
        raise ExportError("give a run directory or --from FILE, one of the two.")
    if run is not None:
        refuse_foreign(calibrate=calibrate, labels=labels, val=val, mean=mean, std=std, color=color, resize=resize)
        refuse_foreign(size=size, embedding=embedding, output=output, name=name or None, licence=licence or None)
    options = ExportOptions(
        int8=int8,
        float16=float16,
        method=calibration,
        target=target_for(target, vnni=vnni, opset=opset, ir_version=ir_version, batch=batch),
        limits=Limits(max_drop, min_speedup, min_agreement, seconds=60.0 * search_minutes),
        out=out,
        overwrite=overwrite,
    )
    options.limits.check()
    if source is not None:
        given = foreign_options(
            source, calibrate, labels, val, mean, std, color, resize, size, embedding, output, name, licence
        )
        result = export_foreign(source, given, options, progress_bar)
    else:
        result = export_run(run, options, progress_bar)  # type: ignore[arg-type]
    if as_json:
        import json

        print(json.dumps(result.to_dict(), indent=2))
    else:
        print("\n".join(lines(result)))
    for warning in warnings(result):
        typer.echo(f"warning: {warning}", err=True)
    if result.missed:
        typer.echo(f"error: int8 was not written: {result.missed}; fp32 is in {result.fp32.path}.", err=True)
        raise typer.Exit(MISSED)
