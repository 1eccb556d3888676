"""From images to Tables 1 to 6 and their figures."""

from pathlib import Path
from typing import Any

from kdedge.paper.figures import draw_figures
from kdedge.paper.material import PaperData, Say
from kdedge.paper.methods import Lab
from kdedge.paper.plan import Plan
from kdedge.paper.runner import run_cells
from kdedge.paper.tables import build_tables, write_tables
from kdedge.progress import Bars
from kdedge.training.engine import Engine, set_threads
from kdedge.training.teacher_run import RunTeacher

__all__ = ["make_tables"]


def make_tables(
    plan: Plan, data: PaperData, out: Path, *, resume: bool, recompute: bool, bars: Bars, say: Say
) -> dict[str, Any]:
    """Run the plan's methods and write ``tables.md``, ``tables.json`` and ``figure-8.png`` to ``figure-10.png`` in ``out``.

    Args:
        resume, recompute: see :func:`run_cells`.

    Returns:
        What ``tables.json`` holds.
    """
    set_threads()
    lab = Lab(plan, data, out, Engine.choose(), bars, say)
    about = data.about()
    identity = {"pixels": about["pixels"]}
    if plan.teacher is not None:
        identity["teacher"] = RunTeacher(plan.teacher.removeprefix("run:")).fingerprint()
    cells = run_cells(plan, out, identity, lab.run, resume=resume, recompute=recompute, say=say)
    tables = build_tables(plan, cells, about)
    write_tables(tables, out)
    if any(cell.outcome.history and plan.method(cell.method).table for cell in cells):
        draw_figures(plan.methods, cells, out)
    return tables
