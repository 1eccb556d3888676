"""What the export changed: layers by arithmetic, what was allowed to be lost and what was, calibrations, agreement."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kdedge.card import ModelCard
from kdedge.runtime.charts import Bar, bars
from kdedge.runtime.markup import DASH, SPACE, Markup, el, join, mapping, milliseconds, number, percent, plain, table
from kdedge.runtime.report.layout import Summary, facts, figure, grid, headed, section, some
from kdedge.runtime.run_reader import RunRecord

__all__ = ["export"]

MOST_LAYERS = 24
"""Float layers and kinds of islands that are listed one by one."""

PARITY = {
    "images": "images compared",
    "top1_agreement": "same first class",
    "cosine": "cosine of the logits",
    "embedding_cosine": "cosine of the embeddings",
    "kl": "KL divergence (nats)",
    "max_abs_error": "largest error of a logit",
    "relative_error": "the same, relative to the largest logit",
}
KERNELS = {
    "onnxruntime CPU": "Read from the graph that onnxruntime's CPU provider runs.",
    "placement of Q/DQ": "Told from where the quantise nodes are; what the device makes of them is known there alone.",
}


def export(summary: Summary, run: RunRecord | None) -> Markup | None:
    """All that is known of the way from the network as trained to the file on the device."""
    small = run.export("int8") if run else None
    card = small.card if small else None
    share = number(card.quantization, "int8_conv_share") if card else None
    share = number(summary, "int8_conv_share") if share is None else share
    fused = f"{percent(share)} of the convolutions run in int8, counted in the graph that onnxruntime executes."
    plainly = el("p", fused) if share is not None and 0 <= share <= 1 and not (card and card.fusion) else None
    return section(
        "Export: what was lost on the way",
        headed("What runs in int8", _fusion(card.fusion)) if card and card.fusion else plainly,
        headed("The guard", _guard(card.guard)) if card and card.guard else None,
        _calibration(card) if card else None,
        headed("When it answers unknown", _rejection((card or run.best_card) if run else None)),
        headed("Agreement, file by file", _parity(_parities(summary, run))),
    )


def _fusion(fusion: Mapping[str, Any]) -> Markup | None:
    layers = []
    for key, name in (("conv", "Convolutions"), ("linear", "Linear layers")):
        total, int8 = number(fusion, f"{key}_total"), number(fusion, f"{key}_int8")
        if total and int8 is not None:
            layers.append(Bar(f"{name} in int8", int8 / total, f"{plain(int8)} of {plain(total)}", strong=True))
    floats, reasons = fusion.get("float_nodes"), mapping(fusion, "reasons")
    names = [str(name) for name in floats] if isinstance(floats, list | tuple) else []
    source = KERNELS.get(str(fusion.get("kernel_source")), str(fusion.get("kernel_source") or ""))
    chart = bars("Layers in int8", layers, top=1.0) if layers else None
    left = None
    if names:
        rows = [(name, reasons.get(name, "unknown why")) for name in names[:MOST_LAYERS]]
        more = f"{len(names)} layer{'s stay' if len(names) > 1 else ' stays'} in float"
        more += f", the first {MOST_LAYERS}:" if len(names) > MOST_LAYERS else ":"
        made = table(("layer", "why it stays in float"), rows, label="Layers in float", class_="facts")
        left = join((el("p", more), made))
    elif layers:
        left = el("p", "No layer stays in float.")
    figures = el("figure", chart, el("figcaption", source) if source else None) if chart else None
    return join((figures, left, _islands(fusion.get("islands"))))


def _islands(found: object) -> Markup | None:
    islands = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else None
    if islands is None:
        return None
    if not islands:
        return el("p", "No float operators between int8 layers.")
    kinds = Counter(" and ".join(map(str, each.get("ops") or ("?",))) for each in islands)
    nodes = {
        kind: [
            str(node)
            for each in islands
            if " and ".join(map(str, each.get("ops") or ("?",))) == kind
            for node in each.get("nodes") or ()
        ]
        for kind in kinds
    }
    rows = [(kind, count, some(nodes[kind], 4)) for kind, count in kinds.most_common(MOST_LAYERS)]
    one = len(islands) == 1
    lead = f"{len(islands)} float island{'' if one else 's'} between int8 layers, {'' if one else 'each '}"
    made = table(("operators", "times", "nodes"), rows, label="Float islands", class_="facts")
    return join((el("p", f"{lead}a pass from integers to floats and one back:"), made))


def _guard(guard: Mapping[str, Any]) -> Markup | None:
    lost, allowed, images = (number(guard, key) for key in ("drop_points", "max_drop_points", "images"))
    said = []
    if lost is not None:
        text = f"Against fp32 the int8 file loses {_points(lost)} of accuracy"
        text += f" on {plain(images)} held-out images" if images else ""
        text += f"; {_points(allowed)} {'was' if allowed == 1 else 'were'} allowed" if allowed is not None else ""
        before, after = number(guard, "accuracy_fp32"), number(guard, "accuracy_int8")
        if guard.get("measured_by") == "agreement":
            text += (
                ". There were too few labels to count right answers: it is the loss to expect from answers that changed"
            )
        elif before is not None and after is not None:
            text += f" ({percent(before)} before, {percent(after)} after; these are not the test images)"
        said.append(text + ".")
    speed = mapping(guard, "speedup")
    ratio, before, after = (number(speed, key) for key in ("ratio", "before_ms", "after_ms"))
    if ratio is not None:
        text = f"When it was exported, it ran {ratio:.2f}× as fast as fp32"
        if before is not None and after is not None:
            text += f" ({milliseconds(before)} before, {milliseconds(after)} after"
            threads = number(speed, "threads")
            text += f", {plain(threads)} thread{'s' * (threads != 1)})" if threads else ")"
        least = number(guard, "min_speedup")
        said.append(f"{text}; at least {least:g}× was asked for." if least else f"{text}.")
    elif "speedup" in guard:
        said.append("Its speed was not measured when it was exported.")
    return join(el("p", text) for text in said) if said else None


def _rejection(card: ModelCard | None) -> Markup | None:
    """Whatever was recorded of the threshold, but lists."""
    known = card.rejection if card else {}
    return facts({key: value for key, value in known.items() if not isinstance(value, list | tuple)}, "Threshold")


def _points(value: float) -> str:
    text = f"{value:.2f}".replace("-", "\u2212").removesuffix(".00")
    return f"{text}{SPACE}point{'s' * (abs(value) != 1)}"


def _calibration(card: ModelCard) -> Markup | None:
    """The calibrations that were tried, by divergence from fp32; by cosine in old cards, which knew nothing else."""
    tried, method = mapping(card.quantization, "candidates"), card.quantization.get("method")
    rows = []
    for name in tried:
        known = mapping(tried, name)
        cosine = number(known, "cosine") if known else number(tried, name)
        rows.append((str(name), number(known, "kl"), number(known, "top1_agreement"), cosine))
    if not any(value is not None for row in rows for value in row[1:]):
        return None
    divergences = [
        Bar(name, kl, plain(kl, 4), strong=name == method) for name, kl, _, _ in rows if kl is not None and kl >= 0
    ]
    columns: dict[str, list[str]] = {
        "KL (nats)": [plain(kl, 5) for _, kl, _, _ in rows],
        "same first class": [percent(agreement) if agreement is not None else DASH for _, _, agreement, _ in rows],
        "cosine": [plain(cosine, 4) for _, _, _, cosine in rows],
    }
    columns = {name: cells for name, cells in columns.items() if set(cells) - {DASH}}
    names = [f"{name}, chosen" if name == method else name for name, *_ in rows]
    made = table(
        ("calibration", *columns), zip(names, *columns.values(), strict=True), label="Calibrations that were tried"
    )
    note = "KL divergence from fp32's probabilities on held-out images, in nats: the smaller, the better."
    chart = (
        figure("Divergence from fp32", bars("Divergence of each calibration", divergences), note)
        if divergences
        else None
    )
    images = number(card.quantization, "images")
    title = "Calibrations" + (f", on {plain(images)} images" if images else "")
    return headed(title, grid(chart, made))


def _parities(summary: Summary, run: RunRecord | None) -> list[tuple[str, Mapping[str, Any]]]:
    """What each file was compared with, and how far it is from that."""
    heads = {"torch": "the network as trained"}
    found: list[tuple[str, Mapping[str, Any]]] = []
    for precision in ("fp32", "fp16", "int8"):
        each = run.export(precision) if run else None
        if each and each.card.parity:
            before = str(each.card.parity.get("reference", "the form before it"))
            found.append((f"{precision} file against {heads.get(before, before)}", each.card.parity))
    if found:
        return found
    recorded = mapping(summary, "parity")
    words = {"fp32": "fp32 file against the network", "int8": "int8 file against the fp32 file"}
    return [(head, mapping(recorded, kind)) for kind, head in words.items() if mapping(recorded, kind)]


def _parity(found: Sequence[tuple[str, Mapping[str, Any]]]) -> Markup | None:
    found = [(head, parity) for head, parity in found if any(number(parity, key) is not None for key in parity)]
    keys = dict.fromkeys(key for _, parity in found for key in parity if number(parity, key) is not None)
    cells = [
        (PARITY.get(key, key), *(_cell(key, number(parity, key)) for _, parity in found))
        for key in [*(k for k in PARITY if k in keys), *(k for k in keys if k not in PARITY)]
    ]
    return table(("", *(head for head, _ in found)), cells, label="Agreement of the files") if cells else None


def _cell(key: str, value: float | None) -> str:
    return percent(value) if key == "top1_agreement" else plain(value, 4)
