"""``kdedge export``: from a run to ONNX files for the device."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kdedge.export.recipe import ExportResult

__all__ = ["export"]

AGREES = 0.9  # share of held-out images, below which a warning is due
ENOUGH = 0.9
"""Share of int8 convolutions below which the user is warned."""


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that kdedge distill or train made.")],
    int8: Annotated[
        bool, typer.Option("--int8/--fp32-only", help="Quantise to int8 as well, or write the fp32 file alone.")
    ] = True,
    target: Annotated[str, typer.Option(help="Device profile of the int8 file; x86 is the one there is.")] = "x86",
    calibration: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="How activation ranges are chosen: minmax, percentile or mse; auto tries all three and keeps "
            "the one that agrees best with fp32 on held-out images.",
        ),
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export the student of a run to ONNX, fp32 and int8, and verify both.

    Writes RUN/student.onnx and RUN/student.int8.onnx, each with its labels, preprocessing and scores inside, after
    comparing torch with fp32 and fp32 with int8 on images the student was not trained on. An fp32 file that differs
    from the network is not written.

    \b
    Examples:
      kdedge export runs/first
      kdedge export runs/first --int8 --calibration mse --overwrite
      kdedge export runs/first --fp32-only --json
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra

    need_train_extra()
    from kdedge.export.recipe import export_run

    with progress_bar("exporting") as advance:
        result = export_run(run, int8, target=target, method=calibration, overwrite=overwrite, progress=advance)
    if as_json:
        import json

        print(json.dumps(result.to_dict(), indent=2))
    else:
        for line in _lines(result):
            print(line)
    for warning in _warnings(result):
        print(f"warning: {warning}", file=sys.stderr)


def _lines(result: "ExportResult") -> list[str]:
    found = result.parity_fp32
    differs = f"largest error {found.max_abs_error:.1e}, top-1 agreement {found.top1_agreement:.1%}"
    lines = [f"fp32   {result.fp32_path}  {result.fp32_bytes / 1e6:.2f} MB"]
    lines.append(f"       against torch: {differs} ({found.images} images)")
    last = result.fp32_path
    if result.int8_path and result.parity_int8 and result.fusion and result.quantized and result.int8_bytes:
        last, close = result.int8_path, result.parity_int8
        smaller = result.fp32_bytes / result.int8_bytes
        differs = f"cosine of logits {close.cosine:.4f}, top-1 agreement {close.top1_agreement:.1%}, KL {close.kl:.4f}"
        kernels = f"{result.fusion.conv_int8} of {result.fusion.conv_total} convolutions run in int8"
        lines.append(f"int8   {last}  {result.int8_bytes / 1e6:.2f} MB, {smaller:.1f} times smaller")
        lines.append(f"       against fp32: {differs} nats ({close.images} images)")
        lines.append(f"       {kernels}; calibration {result.quantized.method} on {result.quantized.images} images")
    return [*lines, f"next   kdedge classify IMAGE --model {last}"]


def _warnings(result: "ExportResult") -> list[str]:
    found: list[str] = []
    if result.fusion and result.fusion.share < ENOUGH:
        names: Any = result.fusion.float_nodes
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        found.append(
            f"only {result.fusion.share:.0%} of the convolutions run in int8, the file may be slower than fp32; "
            f"still float: {', '.join(names[:6])}{more}. A student without squeeze-and-excitation or hard-swish "
            "quantises whole, timm/efficientnet_lite0 for one."
        )
    if result.parity_int8 and result.parity_int8.top1_agreement < AGREES:
        found.append(
            f"int8 agrees with fp32 on only {result.parity_int8.top1_agreement:.0%} of the held-out images: do not deploy it "
            "before 'kdedge evaluate' has shown its accuracy; another --calibration or more training images may help."
        )
    if result.quantized and result.quantized.target.note:
        found.append(result.quantized.target.note)
    return found
