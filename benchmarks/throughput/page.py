"""From the samples of both sides to rates, their ratio and a page for people."""

import statistics
from typing import Any

from benchmarks.common import conditions_line, markdown_table

__all__ = ["markdown", "rate_at", "summarize"]

STEPS = ("prepare", "read", "teacher", "distill", "head", "write", "rest")
PAPERS_EPOCHS = 100


def rate_at(sample: dict[str, Any], epochs: float, epoch_images: int) -> float:
    """Student images a second of a training of ``epochs`` epochs: what is done once stays, the training grows with it.

    For the number of epochs that were measured this is images over wall seconds. Evaluations count as training.

    Args:
        sample: of one side: ``images`` trained on, ``seconds`` by step.
        epoch_images: images of an epoch.
    """
    seconds: dict[str, float] = sample["seconds"]
    images, measured = epochs * epoch_images, int(sample["images"])
    once = sum(seconds.values()) - seconds["distill"]
    return images / (once + seconds["distill"] * images / measured)


def summarize(samples: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """Medians over the samples of each side, for the number of epochs in ``settings``, and their ratio."""
    epoch_images = settings["images"] // settings["batch"] * settings["batch"]
    sides = {}
    for side in ("paper", "kdedge"):
        mine = [sample for sample in samples if sample["side"] == side]
        sides[side] = {
            "images_per_s": _median([rate_at(sample, settings["epochs"], epoch_images) for sample in mine]),
            "images_per_s_at_100_epochs": _median([rate_at(sample, PAPERS_EPOCHS, epoch_images) for sample in mine]),
            "seconds": {
                step: _median([sample["seconds"][step] for sample in mine])
                for step in STEPS
                if step in mine[0]["seconds"]
            },
            "cpu_ms_per_image": _median([1e3 * sample["cpu_s"] / sample["images"] for sample in mine]),
            "measured_images": mine[0]["images"],
            "precision": mine[-1]["precision"],
            "teacher_precision": mine[-1].get("teacher_precision", "fp32"),
            **{key: _median([sample[key] for sample in mine]) for key in ("data_wait", "peak_mb", "gpu_peak_mb")},
            "worker_peak_mb": _median([sample["worker_peak_mb"] for sample in mine]),
            "step_images_per_s": _median([sample.get("step_images_per_s") for sample in mine]),
        }
    ratios = {key: sides["kdedge"][key] / sides["paper"][key] for key in ("images_per_s", "images_per_s_at_100_epochs")}
    return {"sides": sides, "ratio": ratios, "settings": settings, "samples": samples}


def _teacher(given: dict[str, Any], row: dict[str, Any]) -> str:
    """The precision of kdedge's teacher; a random one would not be let compute in bf16, so somebody insisted."""
    insisted = given.get("teacher_precision") == "bf16" and given["weights"] == "random"
    note = " (as given; `auto` refuses it to random weights, whose activations hardly vary)" if insisted else ""
    return f"{row['teacher_precision']}{note}"


def _median(values: list[Any]) -> float | None:
    return None if None in values else statistics.median(values)


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    given, sides, ratio = data["settings"], data["sides"], data["ratio"]
    head = ("", "images/s", "waits for data", "CPU ms an image", "peak MB", "peak GPU MB", "precision")
    rows = []
    for side, name in (("paper", "the paper's way"), ("kdedge", "kdedge")):
        row = sides[side]
        cells = [name, f"{row['images_per_s']:.1f}", _show(row["data_wait"], ".0%"), f"{row['cpu_ms_per_image']:.1f}"]
        cells += [_show(row["peak_mb"], ".0f"), _show(row["gpu_peak_mb"], ".0f"), row["precision"]]
        rows.append(cells)
    steps = [f"{step} {seconds:.1f}" for step, seconds in sides["kdedge"]["seconds"].items() if seconds >= 0.05]
    paper, device = sides["paper"], data["conditions"]["device"]
    gpu = "" if device == "cpu" else f"{device}. "
    steps_alone = sides["kdedge"]["step_images_per_s"]
    alone = f"Its training steps alone see {steps_alone:.1f} images a second. " if steps_alone else ""
    measured = (
        f"Of the paper's way {given['paper_epochs']} of {given['epochs']} epochs were measured; each does the same "
        "work, so the others are taken to last as long. "
        if given["paper_epochs"] < given["epochs"]
        else ""
    )
    return (
        f"# Throughput of a distillation\n\n{markdown_table(head, rows)}\n"
        f"kdedge: {ratio['images_per_s']:.2f} times as many images a second. "
        f"{given['teacher']} into {given['student']} at {given['size']} pixels, {given['images']} "
        f"{'synthetic JPEGs' if given['synthetic'] else 'images'}, {given['epochs']} epoch(s), batches of {given['batch']}, "
        f"augmentation {given['augment']}, {given['weights']} teacher. Images a second are images the student was trained "
        f"on over the wall seconds of the whole distillation: medians of {given['repeats']} training(s) of each side, "
        "in turns, each in a process of its own.\n\n"
        f"The paper's way decodes, transforms and shows the teacher every image in every epoch ({given['workers']} loading "
        f"processes, float32). {measured}Its peak memory is that of the training process; a loading process reached "
        f"{paper['worker_peak_mb']:.0f} MB. kdedge starts with an empty cache, its teacher sees {given['views']} views of "
        f"an image once in {_teacher(given, sides['kdedge'])}, and evaluations are part of its "
        f"seconds: {', '.join(steps)}. {alone}It trains on those views in every "
        "epoch where the paper's way draws new ones, so equal images are not equal variety: this page measures speed "
        "alone.\n\n"
        f"Computed from the same seconds for {PAPERS_EPOCHS} epochs, the fewest of the paper: "
        f"{sides['paper']['images_per_s_at_100_epochs']:.1f} and {sides['kdedge']['images_per_s_at_100_epochs']:.1f} "
        f"images a second, {ratio['images_per_s_at_100_epochs']:.2f} times as many.\n"
        f"{_profiles(data['profiles'])}\n{gpu}{conditions_line(data['conditions'])}\n"
    )


def _profiles(profiles: dict[str, Any]) -> str:
    if not profiles:
        return ""
    rows = [(side, f"{found['matrix']:.0%}", f"{found['busy']:.0%}") for side, found in profiles.items()]
    table = markdown_table(("profile of 20 steps", "GPU time in matrix kernels", "GPU busy"), rows)
    return f"\n{table}\nThe share is of the kernels' time, by their names; the profiler slows the steps down.\n"


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
