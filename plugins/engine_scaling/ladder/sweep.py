"""A ladder from one spec: measures the speed, chooses budgets and sizes, runs them, fits a law,
predicts held-out runs, runs these, and compares.

Everything is decided by files in the sweep's folder and by what its runs have measured, so a sweep that
was killed goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine import RunError, SpecError, read_json, read_regular, write_durably
from engine_scaling.ladder import predictions as told
from engine_scaling.ladder.budgets import (
    FEWEST,
    REPEATED,
    chosen_budgets,
    fitted_seconds,
    held_out_ahead,
)
from engine_scaling.ladder.models import LR_POWER, Size, Template
from engine_scaling.ladder.results import Climbed, loss_of
from engine_scaling.ladder.rungs import LEAST_STEPS, Ladder, Rung, middle
from engine_scaling.ladder.show import Show
from engine_scaling.ladder.speed import STEPS, Speed, json_text, measured
from engine_scaling.laws.believed import Belief, believe
from engine_scaling.points.point import Point, Points
from engine_scaling.points.reading import read_points
from engine_scaling.points.sweeps import HELD_OUT, ROLES, SPEED, TEXT
from engine_scaling.runner import Job, Launch, Outcome, Runner, in_a_process


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sweep is asked for.

    ``seconds``: of the fitted runs in all; ``flops``: in their place, the smallest budget;
    ``budgets`` and ``sizes``: how many; ``held_out``: empty to only fit.
    """

    seconds: float
    held_out: tuple[told.HeldOut, ...]
    flops: float | None = None
    budgets: int = 4
    sizes: int = 5
    lr_power: float = LR_POWER
    least_steps: int = LEAST_STEPS


class Sweep:
    """A ladder in a folder. Raises SpecError where the folder holds another one."""

    def __init__(
        self,
        template: Template,
        folder: Path,
        asked: Asked,
        show: Show,
        *,
        options: Sequence[str] = (),
        launch: Launch = in_a_process,
    ) -> None:
        self._template, self._folder, self._asked, self._show = template, folder, asked, show
        self._runner = Runner(
            folder,
            template.loaded.resolved(),
            prepared=template.corpus,
            stage=template.stage,
            options=options,
            launch=launch,
        )
        self._failed: dict[str, str] = {}
        self._plan = json_text({**asdict(asked), "held_out": None})
        self._check_plan()

    def run(self) -> Climbed:
        """Runs all that is missing.

        Raises SpecError where the budget or the text is too small, RunError where runs fail that the
        ladder cannot do without.
        """
        self._save_roles()
        corpus = self._runner.prepare(self._show.preparing)
        ladder = Ladder(
            self._template, _unique(corpus), self._asked.lr_power, self._asked.least_steps
        )
        speed = self._speed()
        asked = self._asked
        budgets = chosen_budgets(
            ladder, speed, asked.seconds, asked.flops, asked.budgets, asked.sizes
        )
        write_durably(self._folder / "plan.json", self._plan)
        self._plan_shown(ladder, speed, budgets)
        done = self._climb(ladder, speed, budgets)
        points = read_points([self._runner.runs / rung.name for rung, _ in done])
        belief = believe(points)
        self._show.believed(belief)
        write_durably(self._folder / "law.json", belief.law.text())
        results: list[told.Result] = []
        skipped = dict(ladder.skipped)
        if self._asked.held_out:
            widest = max(rung.size.width for rung, _ in done)
            attempt = self._predict(ladder, speed, belief, points, budgets[-1], widest)
            self._save_roles()
            results = self._hold_out(attempt)
            skipped |= {f"held out {name}": why for name, why in attempt.skipped.items()}
        failed = self._failed | dict(points.left_out)
        return Climbed(
            belief,
            points,
            told.attempts(self._folder),
            results,
            skipped,
            failed,
            dict(ladder.edges),
        )

    def _check_plan(self) -> None:
        """Raises SpecError where the folder's runs follow from other options."""
        file = self._folder / "plan.json"
        if file.exists() and read_regular(file).decode("utf-8") != self._plan:
            raise SpecError(
                f"{self._folder}: holds a ladder that was planned with other options",
                hint="repeat these, or give another folder with --to",
            )

    def _save_roles(self) -> None:
        """Says which runs are no rungs, so that whoever reads the sweep's runs leaves them out."""
        roles = {self._template.loaded.spec.name: TEXT}
        roles |= {job.name: SPEED for job in self._speed_jobs()[1]}
        roles |= {run.name: HELD_OUT for one in told.attempts(self._folder) for run in one.runs}
        write_durably(self._folder / ROLES, json_text(roles))

    def _speed_jobs(self) -> tuple[tuple[Size, ...], list[Job]]:
        """Two sizes, and the short trainings of them that the speed is measured by."""
        own, grain = self._template.width, self._template.grain
        narrow = max(grain, own // 2 // grain * grain)
        sizes = tuple(self._template.size(w, self._asked.lr_power) for w in (narrow, 2 * own))
        changes = [self._template.changes(size, STEPS) for size in sizes]
        return sizes, [Job(f"speed-w{s.width}", c) for s, c in zip(sizes, changes, strict=True)]

    def _speed(self) -> Speed:
        """The speed as it was measured first, so that a resumed sweep has the same budgets."""
        file = self._folder / "speed.json"
        if file.exists():
            return Speed.read(file)
        sizes, jobs = self._speed_jobs()
        outcomes = list(self._runner.run(jobs, self._show.watcher("the speed", jobs)))
        for outcome in outcomes:
            if outcome.status == "failed":
                raise RunError(f"{outcome.job.name}: {outcome.reason}", hint=self._log(outcome))
        speed = measured((sizes[0], sizes[1]), (outcomes[0], outcomes[1]), self._template.batch)
        speed.save(file)
        return speed

    def _plan_shown(self, ladder: Ladder, speed: Speed, budgets: Sequence[float]) -> None:
        """Tells what was measured and chosen, and which held-out runs will follow."""
        took = fitted_seconds(ladder, speed, budgets, self._asked.sizes, REPEATED)
        self._show.planned(speed, budgets, ladder, took)
        for one, rung in held_out_ahead(ladder, budgets[-1], self._asked.held_out):
            if isinstance(rung, Rung):
                self._show.ahead(one, speed.seconds(rung.size, rung.steps, self._template.batch))
            else:
                self._show.impossible(one, rung)

    def _climb(
        self, ladder: Ladder, speed: Speed, budgets: Sequence[float]
    ) -> list[tuple[Rung, Outcome]]:
        """Runs the fitted runs, budget by budget. Raises RunError where too few are left to go on."""
        done: list[tuple[Rung, Outcome]] = []
        for number, budget in enumerate(budgets):
            known = [(r, loss_of(o)) for r, o in done if not r.repetition]
            best = middle(budget, known)
            rungs = ladder.rungs(budget, best, self._asked.sizes)
            if number == min(1, len(budgets) - 1) and rungs:
                near = min(rungs, key=lambda r: abs(math.log(r.size.parameters / best)))
                rungs += [
                    replace(near, name=f"{near.name}-r{i}", repetition=i)
                    for i in range(1, REPEATED + 1)
                ]
            found = self._made(f"{budget:.2g} FLOPs", rungs, speed)
            losses = {r.name: loss_of(o) for r, o in found if not r.repetition}
            more = ladder.beyond([r for r in rungs if not r.repetition], losses)
            if more:
                found += self._made(f"{budget:.2g} FLOPs, at the edge", [more], speed)
            if len(losses) < FEWEST:
                raise RunError(
                    f"{budget:.2g} FLOPs: {len(losses)} of its runs are done, and {FEWEST} are needed",
                    hint=f"see {self._folder / 'logs'}, and run the sweep again",
                )
            done += found
        return done

    def _made(self, title: str, rungs: Sequence[Rung], speed: Speed) -> list[tuple[Rung, Outcome]]:
        """Runs, and those of them whose loss is a number."""
        jobs = [self._job(rung, speed) for rung in rungs]
        outcomes = list(self._runner.run(jobs, self._show.watcher(title, jobs)))
        self._failed |= {o.job.name: o.reason for o in outcomes if o.status == "failed"}
        return [
            (rung, outcome)
            for rung, outcome in zip(rungs, outcomes, strict=True)
            if outcome.status == "done" and math.isfinite(loss_of(outcome))
        ]

    def _job(self, rung: Rung, speed: Speed) -> Job:
        template = self._template
        return Job(
            rung.name,
            template.changes(rung.size, rung.steps, rung.repetition),
            speed.seconds(rung.size, rung.steps, template.batch),
            {
                "N": f"{rung.size.parameters:,}",
                "tokens": f"{rung.steps * template.batch:,}",
                "steps": f"{rung.steps:,}",
            },
        )

    def _predict(
        self,
        ladder: Ladder,
        speed: Speed,
        belief: Belief,
        points: Points,
        largest: float,
        widest: int,
    ) -> told.Attempt:
        """Predictions of the held-out runs, as they stand in the attempt's file."""
        before = told.attempts(self._folder)
        begun = [
            run.name for a in before for run in a.runs if (self._runner.runs / run.name).exists()
        ]
        standing = told.standing(before, belief.law, self._asked.held_out, begun)
        if isinstance(standing, told.Attempt):
            return standing
        runs, skipped = [], {}
        for one, rung in self._held_out_rungs(ladder, belief, largest, widest):
            if isinstance(rung, Rung):
                runs.append(self._prediction(rung, one, belief, points.points, speed))
            else:
                skipped[str(one)] = rung
        digest = told.digest_of(belief.law.text())
        attempt = told.Attempt(standing, told.now(), digest, skipped, tuple(runs))
        attempt.save(self._folder, belief.law)
        return attempt

    def _held_out_rungs(
        self, ladder: Ladder, belief: Belief, largest: float, widest: int
    ) -> Iterator[tuple[told.HeldOut, Rung | str]]:
        """The held-out runs; in place of one that cannot be made the reason."""
        for one in self._asked.held_out:
            budget = float(f"{largest * one.factor:.3g}")
            best = ladder.best(budget, belief.law.best, widest)
            size = self._template.size(best.width * one.wider, self._asked.lr_power)
            yield one, ladder.tried(budget, size, prefix="held-out-")

    def _prediction(
        self,
        rung: Rung,
        one: told.HeldOut,
        belief: Belief,
        points: Sequence[Point],
        speed: Speed,
    ) -> told.Prediction:
        """A prediction, with the digest of the spec that is written for it."""
        batch = self._template.batch
        seconds = speed.seconds(rung.size, rung.steps, batch)
        found = told.predicted(rung, one, belief.law, points, batch, seconds)
        spec = self._runner.write(self._job(rung, speed))
        return replace(found, spec=told.digest_of(read_regular(spec).decode("utf-8")))

    def _hold_out(self, attempt: told.Attempt) -> list[told.Result]:
        """Runs the held-out runs of an attempt, and compares them with what was predicted."""
        self._show.held_out(attempt)
        power = self._asked.lr_power
        rungs = [
            Rung(run.name, run.flops, self._template.size(run.width, power), run.steps)
            for run in attempt.runs
        ]
        speed = Speed.read(self._folder / "speed.json")
        found = self._made("held out", rungs, speed)
        results = told.results(attempt, {rung.name: loss_of(o) for rung, o in found})
        write_durably(
            attempt.folder(self._folder) / "results.json",
            json_text([asdict(result) for result in results]),
        )
        return results

    def _log(self, outcome: Outcome) -> str:
        return f"see {self._folder / 'logs' / outcome.job.name}.txt"


def _unique(corpus: Path) -> float:
    """The tokens that a training reads before it reads any again. Raises RunError."""
    file = corpus / "card.json"
    try:
        card: Mapping[str, list[Mapping[str, float]]] = read_json(file)
        weights = [source["weight"] for source in card["mixture"]]
        tokens = [source["tokens"] for source in card["sources"]]
        shares = [(t, w / sum(weights)) for t, w in zip(tokens, weights, strict=True) if w]
        return min(t / share for t, share in shares)
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise RunError(f"{file}: is damaged ({error})") from error
