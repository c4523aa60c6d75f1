"""What the drivers train_*.py do: they differ by the case that they train without another one."""

from __future__ import annotations

from pathlib import Path

from npde_opt.runs.entry import Call, start


def train(about: str | None, driver: str, case: str) -> None:
    """Trains the network of a case, and ends the program.

    Args:
        about: the driver's docstring. driver: its file.
        case: name in meshes/ of the case that is trained where none is given.
    """
    file = Path(driver).resolve()

    def work(call: Call) -> int:
        from npde_opt.training.run import Training, open_training

        opened, ensemble = open_training(call.options, call.world)
        with Training(
            call.options, opened, ensemble, call.world, call.started, file.stem
        ) as run:
            if run.goes_on():
                run.prepare()
                run.report(run.train())
        return 0

    start(work, "training", about, str(file.parents[1] / "meshes" / case))
