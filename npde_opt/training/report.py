"""What a training leaves: figures of merit, the model of the first split, predictions and
figures."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from npde_opt.aliases import Record
from npde_opt.cases.typed import spelt
from npde_opt.ensemble import Ensemble
from npde_opt.errors import collective
from npde_opt.io.files import whole_file
from npde_opt.io.results import (
    Seconds,
    Summary,
    peak_memory_mb,
    peak_memory_mb_of_a_rank,
)
from npde_opt.networks.model import Model
from npde_opt.optimizers import Result
from npde_opt.optimizers.interface import EPOCHS
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.meanings import of_batches
from npde_opt.runs.monitor import Monitor
from npde_opt.runs.progress import TRAINED
from npde_opt.training.case import TrainingCase
from npde_opt.training.comparison import Collected
from npde_opt.training.data import Part
from npde_opt.training.drawing import FIGURES, draw
from npde_opt.training.optics import SAMPLES, Light, optical
from npde_opt.training.problem import Problem, Seen, wrong

MODEL, PREDICTIONS, COMPARISON = "model.npz", "predictions.csv", "comparison.csv"
MOST_OUTPUTS = 50
"""Numbers a sample that are written as text."""
MEANINGS = {
    "error": "share of the samples whose class is another",
    "rmse": "root mean square of predicted - wanted, in the unit of the data",
    "psnr": "-10 log10 of the mean square of predicted - wanted, mean over the pictures; dB",
    "loss": "mean over the samples of what is minimized",
    "power": "share of the light that arrives behind the last mask, or falls on detectors",
}


def names_of_files(case: TrainingCase, plot: bool) -> list[str]:
    """What a run writes beside what every run does."""
    return [MODEL, PREDICTIONS, COMPARISON, *(FIGURES if plot else ())]


class Report:
    """Collects what the networks of all splits are worth; writes that of the first.

    Args:
        out: the folder; None in groups that do not write.
    """

    def __init__(
        self,
        case: TrainingCase,
        ensemble: Ensemble,
        out: RunDirectory | None,
        monitor: Monitor,
        plot: bool,
    ):
        self.case, self.ensemble, self.out = case, ensemble, out
        self.monitor, self.plot = monitor, plot
        self.values: dict[str, list[float]] = {}
        self.spent: Counter[str] = Counter()
        self.results: list[Result] = []
        self.confusion: np.ndarray | None = None
        self.first: tuple[Problem, Result] | None = None
        self.seen: list[tuple[Part, Seen]] = []
        self.collected = Collected(case)

    def add(self, problem: Problem, result: Result, work: Mapping[str, int]) -> None:
        """Looks at the network of a split, which from then on is this report's. Collective."""
        self.spent.update(work)
        self.results.append(result)
        found: dict[str, float] = {}
        first = self.first is None
        kept = first or self.collected.series
        tests: dict[str, Seen] = {}
        for part in problem.parts.all:
            of_test = part in problem.parts.tests
            seen = problem.see(result.m, part, keep=kept and of_test)
            found |= self._figures(problem, part, seen)
            if of_test:
                tests[part.name] = self._keep(problem, part, seen)
        self.collected.add(tests)
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)
        told = ", ".join(
            f"{n.replace('_', ' ')} {_shown(n, v)}" for n, v in found.items()
        )
        of = f"{self.case.called(problem.split)} of {self.case.networks}: "
        self.monitor.say((of if self.case.networks > 1 else "") + told)
        if first:
            self.first = problem, result
        else:
            result.m.destroy()
            problem.destroy()

    def _figures(self, problem: Problem, part: Part, seen: Seen) -> dict[str, float]:
        """Of a part, by name."""
        place = part.name.replace(" ", "_")
        found = {f"loss_{place}": problem.mean(seen.loss)}
        if problem.classifies:
            labels = problem.samples(part).targets
            return found | {f"error_{place}": problem.mean(wrong(seen, labels))}
        found[f"rmse_{place}"] = float(np.sqrt(problem.mean(seen.squares)))
        if self.case.denoises:
            decibels = -10 * np.log10(np.maximum(seen.squares, 1e-30))
            found[f"psnr_{place}"] = problem.mean(decibels)
        return found

    def _keep(self, problem: Problem, part: Part, seen: Seen) -> Seen:
        """Confusion of all splits; what is seen of the first. All samples of the part."""
        if problem.classifies:
            labels, count = problem.samples(part).targets, problem.source.target_size
            pairs = labels * count + np.minimum(seen.classes.astype(int), count - 1)
            own = np.bincount(pairs, minlength=count**2).reshape(count, count)
            every = sum(self.ensemble.across.allgather(own))
            self.confusion = every if self.confusion is None else self.confusion + every
        whole = self._everyone(seen)
        if self.first is None:
            self.seen.append((part, whole))
        return whole

    def _everyone(self, seen: Seen) -> Seen:
        """Of all groups, on every rank."""
        parts = self.ensemble.across.allgather(seen)
        order = np.argsort(np.concatenate([p.numbers for p in parts]))
        names = ("numbers", "loss", "squares", "classes", "outputs")
        columns = [
            np.concatenate([getattr(p, name) for p in parts if len(p.numbers)])[order]
            for name in names
        ]
        return Seen(*columns)

    # ---- the end ---------------------------------------------------------------------------------

    def finish(
        self,
        driver: str,
        case: str,
        attempt: Attempts,
        times: tuple[float, float, float],
    ) -> Summary:
        """Writes all files; the summary. Collective.

        Args:
            times: when the run started, was ready and had trained.
        """
        assert self.first is not None
        problem, result = self.first
        weights = self.weights(problem, result)
        metrics = self._metrics(result, self._power(problem, weights))
        model = self._model(problem, weights, metrics)
        attempt("the model", lambda: self._write(MODEL, model.content()))
        attempt(
            "predictions.csv", lambda: self._write(PREDICTIONS, self._text().encode())
        )
        attempt("the comparison", self._compare)
        if self.plot:
            attempt("drawing", lambda: self._draw(problem, weights))
        started, ready, solved = times
        seconds = Seconds(ready - started, solved - ready, time.monotonic() - started)
        summary = self._summary(driver, case, seconds, metrics)
        problem.destroy()
        return summary

    def _compare(self) -> None:
        """Says what the networks are worth beside other methods, and writes it."""
        table = None
        with collective(self.ensemble.world):
            if self.ensemble.world.rank == 0:
                table = self.collected.table()
        table = self.ensemble.world.bcast(table, root=0)
        if table is not None:
            for line in table.lines():
                self.monitor.say(line)
            self._write(COMPARISON, table.content().encode())

    def _draw(self, problem: Problem, weights: Mapping[str, np.ndarray]) -> None:
        if self.out is not None:
            draw(self.out, problem, weights, self.confusion, self.seen)

    def weights(self, problem: Problem, result: Result) -> dict[str, np.ndarray]:
        """By name, on every rank. Collective."""
        found = problem.space.at(result.m).coefficients()
        return {name: np.array(value, float) for name, value in found.items()}

    def _metrics(self, result: Result, power: Record) -> Record:
        """The mean of each figure over the splits, and all of them."""
        found: Record = {"reason": result.reason, **power}
        if not np.isnan(result.decrement):
            found["decrement"] = result.decrement
        for name, values in self.values.items():
            found[name] = float(np.mean(values))
            if len(values) > 1:
                found[f"{name}_splits"] = values
        told = {
            n: MEANINGS[n.split("_")[0]] for n in found if n.split("_")[0] in MEANINGS
        }
        told = {n: t for n, t in told.items() if not n.endswith("_splits")}
        batch = self.case.table.optimizer[-1].batch
        return found | {
            "meanings": told | of_batches(batch, self.case.parts().train.count)
        }

    def _power(self, problem: Problem, weights: Mapping[str, np.ndarray]) -> Record:
        """Of light, where there is any."""
        if not optical(problem.network) or not self.seen:
            return {}
        with self.ensemble.together():
            given = problem.first(self.seen[0][0], SAMPLES)
            return dict(Light(problem.network, weights, given).power())

    def _model(
        self, problem: Problem, weights: Mapping[str, np.ndarray], metrics: Record
    ) -> Model:
        table = self.case.table
        architecture = {
            "network": spelt(table.network),
            "layer": [spelt(layer) for layer in table.layer],
        }
        told = {
            n: v for n, v in metrics.items() if isinstance(v, float) and np.isfinite(v)
        }
        return Model(
            architecture,
            weights,
            problem.source.channels,
            problem.source.shape,
            problem.inputs,
            problem.outputs,
            problem.source.classes,
            {"case": self.case.name, "data": problem.source.name, **told},
        )

    def _write(self, name: str, content: bytes) -> None:
        """A file of rank 0's."""
        if self.out is None:
            return
        with collective(self.out.comm):
            if self.out.comm.rank == 0:
                with self.out.writing(), whole_file(self.out.file(name)) as file:
                    file.write(content)

    def _text(self) -> str:
        """predictions.csv: what the network of the first split makes of the tests."""
        assert self.first is not None
        problem, _ = self.first
        out = io.StringIO()
        if problem.classifies:
            print("part,sample,label,found,probability", file=out)
        else:
            count = min(problem.source.target_size, MOST_OUTPUTS)
            heads = [f"{what}{i}" for what in ("wanted", "found") for i in range(count)]
            print(",".join(["part", "sample", "rmse", *heads]), file=out)
        for part, seen in self.seen:
            for line in self._lines(problem, part, seen):
                print(f"{part.name},{line}", file=out)
        return out.getvalue()

    def _lines(self, problem: Problem, part: Part, seen: Seen) -> Sequence[str]:
        numbers = part.numbers[seen.numbers]
        if problem.classifies:
            assert part.source.labels is not None
            names, labels = problem.source.classes, part.source.labels[numbers]
            found = seen.classes.astype(int)
            chosen = seen.outputs[np.arange(len(found)), found]
            told = [names[c] if c < len(names) else str(c) for c in found]
            rows = zip(numbers, labels, told, chosen, strict=True)
            return [f"{n},{names[y]},{c},{p:.6g}" for n, y, c, p in rows]
        count = min(problem.source.target_size, MOST_OUTPUTS)
        outputs = seen.outputs[:, :count]
        wanted = part.source.samples(numbers).targets.reshape(len(numbers), -1)[
            :, :count
        ]
        rows_ = zip(numbers, np.sqrt(seen.squares), wanted, outputs, strict=True)
        return [
            ",".join(
                [str(n), f"{r:.6g}", *(f"{v!r}" for v in [*w.tolist(), *o.tolist()])]
            )
            for n, r, w, o in rows_
        ]

    def _status(self, result: Result) -> str:
        """That of the optimizer, but that epochs which were asked for are all that was asked."""
        method = self.case.table.optimizer[-1].method
        done = method in EPOCHS and result.status == "max_iterations"
        return TRAINED if done else result.status

    def _summary(
        self, driver: str, case: str, seconds: Seconds, metrics: Record
    ) -> Summary:
        assert self.first is not None
        problem, result = self.first
        world = self.ensemble.world
        return Summary(
            driver=driver,
            case=case,
            ranks=world.size,
            grid=problem.network.grid.shape,
            unknowns=problem.network.source.size,
            parameters=problem.network.size,
            status=self._status(result),
            iterations=result.iterations,
            objective=result.objective,
            objective_initial=result.objective_initial,
            gradient_norm=result.gradient_norm,
            gradient_norm_initial=result.gradient_norm_initial,
            forward_solves=int(self.ensemble.sum(self.spent["forward_solves"])),
            adjoint_solves=int(self.ensemble.sum(self.spent["adjoint_solves"])),
            krylov_iterations_mean=float("nan"),
            seconds=seconds,
            peak_memory_mb=peak_memory_mb(world),
            peak_memory_mb_of_a_rank=peak_memory_mb_of_a_rank(world),
            metrics=metrics,
        )


def _shown(name: str, value: float) -> str:
    return f"{value:.2%}" if name.startswith("error") else f"{value:.5g}"
