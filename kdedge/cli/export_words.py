"""What ``kdedge export`` says about what it wrote."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdedge.export.int8 import Int8
    from kdedge.export.result import ExportResult, Written

__all__ = ["lines", "warnings"]

ENOUGH = 0.9
"""Share of int8 layers below which the user is warned."""

FEW = 32
"""Calibration images below which the ranges are a guess."""

_WIDTH = 6


def lines(result: "ExportResult") -> list[str]:
    """The answer, one line a string."""
    found: list[str] = []
    for file in (result.fp32, result.fp16, result.int8):
        if file:
            found += _file(file, result)
    if result.quantized:
        found += ["", *_calibration(result.quantized), *_attempts(result.quantized)]
    best = result.best
    found += [
        "",
        f"{len(best.rules)} of {len(best.rules)} rules of target {result.target.name} hold for {best.path.name}",
    ]
    next_step = f"kdedge classify IMAGE --model {best.path}"
    return [*found, f"next   {next_step if result.target.on_cpu else f'copy {best.path} to the device'}"]


def _file(file: "Written", result: "ExportResult") -> list[str]:
    close = file.parity
    size = f"{file.bytes / 1e6:.2f} MB"
    if file is not result.fp32:
        size += f", {result.fp32.bytes / file.bytes:.1f} times smaller"
    words = [f"top-1 agreement {close.top1_agreement:.1%}", f"KL {close.kl:.2g} nats"]
    if close.embedding_cosine is not None:
        words.append(f"cosine of embeddings {close.embedding_cosine:.4f}")
    if file.precision != "int8":
        words.insert(0, f"largest error {close.max_abs_error:.1e}")
    told = [f"{file.precision:<{_WIDTH}} {file.path}  {size}"]
    told.append(f"       against {file.reference}: {', '.join(words)} ({close.images} images)")
    if file.precision == "int8" and result.quantized:
        told += _int8(result.quantized)
    return told


def _int8(made: "Int8") -> list[str]:
    taken, fusion = made.guarded.taken, made.fusion
    if taken.found.measured_by == "accuracy":
        lost = f"accuracy {taken.found.accuracy:.1%}, {taken.found.drop:+.2f} points lost"
    else:
        lost = f"{taken.found.drop:.2f} points of accuracy lost, as told by agreement"
    speed = f"; {taken.speed.ratio:.2f} times as fast ({taken.speed.after_ms:.2f} ms a run)" if taken.speed else ""
    kernels = f"{fusion.conv_int8} of {fusion.conv_total} convolutions"
    if fusion.linear_total:
        kernels += f" and {fusion.linear_int8} of {fusion.linear_total} linear layers"
    islands = f"; {len(fusion.islands)} float islands" if fusion.islands else ""
    return [f"       {lost} ({taken.found.images} held-out images){speed}", f"       {kernels} in int8{islands}"]


def _calibration(made: "Int8") -> list[str]:
    collected, cached = made.quantizer.cached.collected, made.quantizer.cached.cached
    memory = f", peak memory {collected.peak_rss_mb:.0f} MB" if collected.peak_rss_mb and not cached else ""
    where = " (from the cache)" if cached else memory
    told = [f"calibration on {collected.images} images{where}"]
    if not made.choice.table:
        return [f"{told[0]}, {made.choice.method}"]
    told.append(f"  {'':<10} {'KL':>8} {'top-1':>7} {'cosine':>7}")
    for name, found in made.choice.table.items():
        cosine = found.embedding_cosine if found.embedding_cosine is not None else found.cosine
        mark = "  chosen" if name == made.choice.method else ""
        told.append(f"  {name:<10} {found.kl:8.2g} {found.top1_agreement:7.1%} {cosine:7.4f}{mark}")
    return told


def _attempts(made: "Int8") -> list[str]:
    attempts = made.guarded.attempts
    if len(attempts) == 1 and not attempts[0].why_not:
        return []
    told = ["search for an int8 file that holds"]
    for attempt in attempts:
        told.append(f"  {attempt.words():<40} {attempt.why_not or 'holds'}")
    if left := made.guarded.taken.left_float:
        told.append(f"  in float: {_some(left)}")
    return told


def _some(names: "tuple[str, ...] | list[str]", most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def warnings(result: "ExportResult") -> list[str]:
    """What the user should know beforehand, a sentence each."""
    found: list[str] = []
    if result.quantized and result.int8:
        fusion, images = result.quantized.fusion, result.quantized.quantizer.cached.collected.images
        left = result.quantized.guarded.taken.left_float
        if fusion.share < ENOUGH:
            reasons = [f"{name} ({fusion.reasons.get(name, 'float')})" for name in fusion.float_nodes]
            way_out = (
                f"{len(left)} of them to stay within the limits: a longer training, more calibration images, or other limits "
                "(--max-drop, --min-agreement) let more run in int8."
                if left
                else "A student without squeeze-and-excitation or hard-swish quantises whole, timm/efficientnet_lite0 for one."
            )
            found.append(
                f"only {fusion.share:.0%} of the convolutions run in int8; in float: {_some(reasons, 4)}. {way_out}"
            )
        if images < FEW:
            found.append(f"{images} calibration images are few; {FEW} or more make the ranges of int8 surer.")
        taken = result.quantized.guarded.taken
        if taken.found.images < 100:
            found.append(
                f"the loss was measured on {taken.found.images} held-out images only: one of them is "
                f"{100 / taken.found.images:.1f} points."
            )
        if result.quantized.limits.min_speedup and not taken.speed:
            found.append(
                f"the speed of target {result.target.name} cannot be measured on this machine; "
                "on the device, 'kdedge bench FILE' does."
            )
    if result.target.note:
        found.append(result.target.note)
    return found
