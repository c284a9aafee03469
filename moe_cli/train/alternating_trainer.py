"""The alternating arm: rounds in which first the selected experts train and then the routers.

In a phase of the experts a step is one of the selective arm. In a phase of the routers it lowers how far routing inside
attacks is from routing of plain goals (`router_phase.py`), and no expert gets a gradient. One AdamW holds both: a
parameter without a gradient keeps weight, moments and step count, so it is one for each, and each has a schedule of its
own. That what is locked does not move by a bit is checked at the end of every phase.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from moe_cli.config import AlternatingConfig
from moe_cli.experts import FrozenProof, probe_gradients
from moe_cli.experts.router_masters import RouterMasters
from moe_cli.model.tensors import digest_of_tensors
from moe_cli.ranks import gathered
from moe_cli.records import Expert, RoundSelection
from moe_cli.records.training import Phase, PhaseRecord
from moe_cli.train import checkpoint
from moe_cli.train.alternating_plan import AlternatingSchedule, Reselect
from moe_cli.train.dataset import NO_BATCH
from moe_cli.train.loop import evaluating
from moe_cli.train.paired_rows import rows_of_part
from moe_cli.train.router_phase import RouterPhase
from moe_cli.train.selective_trainer import ExpertMaskingTrainer
from moe_cli.train.trainer import Inputs

KEPT = "kept"  # of a part of a router step: whether its rows are plain and benign ones, or attacked ones


class AlternatingTrainer(ExpertMaskingTrainer):
    """Trains experts and routers in turn."""

    def alternate(
        self,
        schedule: AlternatingSchedule,
        routers: RouterMasters,
        router_phase: RouterPhase,
        settings: AlternatingConfig,
        warmup_steps: Mapping[Phase, int],
        reselect: Reselect | None,
    ) -> None:
        """Use this schedule; `warmup_steps` are those of the schedule of each kind of phase.

        `reselect` selects the experts of every batch before a phase of theirs, from the second round on.
        """
        self.reselect = reselect
        self.schedule, self.routers, self.router_phase, self.settings = schedule, routers, router_phase, settings
        self.warmup_steps = warmup_steps
        self.under_way = True  # whether the step after `global_step` has begun; False while a finished one is recorded

    @property
    def phase(self) -> Phase:
        """What trains in the step under way."""
        step = self.state.global_step - (0 if self.under_way else 1)
        return self.schedule.epoch_of(max(step, 0)).phase

    def order_of(self, epoch: int) -> list[int]:
        """The order of the batches in an epoch of either kind."""
        return self.schedule.epochs[epoch].order(len(self.train_dataset), self.args.seed)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """The optimizer of the selective arm, with the routers in groups of their own learning rate."""
        optimizer: Optimizer = super().create_optimizer(model)
        of_routers = {id(master) for master in self.routers.parameters.values()}
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in of_routers]
        masters = list(self.routers.parameters.values())
        rate = {**optimizer.defaults, "lr": self.settings.router_learning_rate}
        decay = self.args.weight_decay
        optimizer.add_param_group({**rate, "params": [m for m in masters if m.dim() > 1], "weight_decay": decay})
        optimizer.add_param_group({**rate, "params": [m for m in masters if m.dim() < 2], "weight_decay": 0.0})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """A linear schedule for the experts and one for the routers, each over the steps of its own phases."""
        rates = {phase: self.schedule.rate(phase, self.warmup_steps[phase]) for phase in ("experts", "router")}
        groups = self.optimizer.param_groups
        of_groups = [rates["experts"]] * (len(groups) - 2) + [rates["router"]] * 2
        self.lr_scheduler = LambdaLR(self.optimizer, of_groups)
        return self.lr_scheduler

    def _get_learning_rate(self) -> float:
        """The learning rate of what trains in this step; of the experts where both do."""
        return float(self.lr_scheduler.get_last_lr()[-1 if self.phase == "router" else 0])

    def begin_step(self) -> None:
        """Begin a phase where one begins."""
        self.under_way = True
        step = self.state.global_step
        if not self.phases or self.phases[-1].last_step <= step:
            self._begin_phase()

    def _begin_phase(self) -> None:
        epoch = self.schedule.epoch_of(self.state.global_step)
        first, last = self.schedule.span(self.state.global_step)
        started, before, apart, anew = time.monotonic(), None, None, None
        begins = {"round": epoch.phase != "experts", "base": first == 1}
        if epoch.phase == "experts" and epoch.round > 1 and self.reselect is not None:
            anew = self._select_anew(self.reselect)
        if begins.get(self.settings.consistency_target):
            self.router_phase.read_targets()
        if epoch.phase != "experts":
            if self.settings.keep:
                self.router_phase.keep_start()
            before, apart = self._distances()
        self.phases.append(
            PhaseRecord(
                phase=epoch.phase,
                round=epoch.round,
                first_step=first,
                last_step=last,
                locked_digest=self._locked_digest(epoch.phase),
                consistency_before=before,
                consistency_after=None,
                divergence_before=apart,
                divergence_after=None,
                num_tokens=self._take_num_tokens(),
                seconds=time.monotonic() - started,
                selected=None if anew is None else anew.batches,
                selected_by=None if anew is None else self.settings.reselect,
                num_selecting_pairs=None if anew is None else anew.num_pairs,
                num_left_out=None if anew is None else anew.num_left_out,
            )
        )

    def _select_anew(self, reselect: Reselect) -> RoundSelection:
        """Select the experts of every batch by the model as it is now."""
        self.slices.sync()
        with evaluating(self.model):
            anew = reselect(self.slices.experts)
        self.train_experts_of(anew.batches)
        return anew

    def train_experts_of(self, batches: Sequence[Sequence[Expert]]) -> None:
        """From now on each batch updates these experts; those that it no longer has keep their values.

        Without masks every batch updates the union of them.
        """
        union = {expert for batch in batches for expert in batch}
        if new := union - set(self.slices.experts):
            self.proof.extend(lambda: self.add_slices(new))
            self.num_with_gradient = self._probe_experts() + len(self.routers.parameters)
        masked = self.batch_experts is not None
        own = batches[: len(self.train_dataset)]  # those held out stand behind them
        self.batch_experts = [set(batch) for batch in own] if masked else [union] * len(self.train_dataset)

    def _distances(self) -> tuple[float, float]:
        """How far attacked goals are routed from the target, and from the plain goals now."""
        return self.router_phase.consistency(), self.router_phase.consistency(moving=True)

    def _take_num_tokens(self) -> int:
        """Tokens of the forwards beside those that train, since the last call, of all processes."""
        own, self.router_phase.num_tokens = self.router_phase.num_tokens, 0
        return sum(gathered(own))

    def _end_phase(self) -> None:
        phase, started = self.phases[-1], time.monotonic()
        if self._locked_digest(phase.phase) != phase.locked_digest:
            raise AssertionError(f"what was locked in the phase {phase.phase} of round {phase.round} moved")
        if phase.phase == "experts":
            return
        after, apart = self._distances()
        self.phases[-1] = replace(
            phase,
            consistency_after=after,
            divergence_after=apart,
            num_tokens=phase.num_tokens + self._take_num_tokens(),
            seconds=phase.seconds + time.monotonic() - started,
        )

    def _locked_digest(self, phase: Phase) -> str:
        """Digest of what does not train in a phase of this kind, of all that trains in the run."""
        locked = {"experts": self.routers.parameters, "router": self.slices.parameters, "joint": {}}[phase]
        return digest_of_tensors(locked.items())

    def prove(self, probe: Callable[[], int], proof: FrozenProof) -> None:
        """Check that a step of each kind reaches exactly what it trains.

        `proof` and `probe` are asked again where further experts begin to train.

        Raises:
            ValueError: a step reaches other parameters, or not all of them.
        """
        super().prove(probe, proof)
        self.proof, self._probe_experts = proof, probe
        self.num_with_gradient += self._probe_routers()

    def _probe_routers(self) -> int:
        self.slices.activate(())
        self.model.train()
        with self.routers.learning():
            reached = probe_gradients(self.model, self.router_phase.probe_loss, list(self.routers.parameters.values()))
        self.router_phase.num_tokens = 0  # the probe is no part of the training, and a resumed run has two
        return reached

    def get_batch_samples(
        self, epoch_iterator: Iterator[Inputs], num_batches: int, device: torch.device
    ) -> tuple[list[Inputs], Tensor]:
        """The batches of a step and its answer tokens; where routers train its pairs and the tokens that are kept."""
        self.under_way = True
        samples, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.phase != "experts":
            batches = [self.router_phase.paired[batch] for s in samples if (batch := int(s["batch_index"])) != NO_BATCH]
            own = sum(len(batch.pairs) for batch in batches), sum(batch.num_kept_tokens for batch in batches)
            num_pairs, num_kept = (sum(of) for of in zip(*gathered(own), strict=True))
            self.num_pairs_of_step, self.num_kept_of_step = num_pairs, num_kept
        return samples, num_items

    def begin_batch(self, batch: int) -> None:
        """Give gradients to the experts of this batch; to none while the routers train."""
        if self.phase == "router":
            self.slices.activate(())
        else:
            super().begin_batch(batch)

    def parts_of(self, batch: int, inputs: Inputs) -> list[Inputs]:
        """The rows of a batch that train; of a router step the attacked rows, and those to keep."""
        if self.phase != "router":
            return super().parts_of(batch, inputs)
        paired = self.router_phase.paired[batch]
        of_kind = [(False, paired.attacked), (True, paired.kept if self.settings.keep else ())]
        return [
            {**rows_of_part(inputs, cut), "batch_index": inputs["batch_index"], KEPT: torch.tensor(kept)}
            for kept, cuts in of_kind
            for cut in cuts
        ]

    def train_parts(
        self, model: nn.Module, parts: Sequence[Inputs], num_items_in_batch: Tensor | int | None
    ) -> list[Tensor]:
        """Train the batch as the selective arm does, or the routers on its pairs."""
        if self.phase != "router":
            return super().train_parts(model, parts, num_items_in_batch)
        model.train()
        return [self._train_routers(self._prepare_inputs(part)) for part in parts]

    def _train_routers(self, part: Inputs) -> Tensor:
        """Forward and backward of some rows; their part of the loss of the step."""
        if bool(part[KEPT]):
            loss = self.router_phase.keep_loss(part) * (self.settings.keep / self.num_kept_of_step)
        else:
            loss = self.router_phase.consistency_loss(int(part["batch_index"]), part) / self.num_pairs_of_step
        with self.routers.learning():  # checkpointing repeats forwards in the backward
            loss.backward()  # type: ignore[no-untyped-call]
        on_device: Tensor = loss.detach().to(self.args.device)
        return on_device

    def experts_of(self, batches: Sequence[int]) -> int:
        """Number of experts that a step on these batches updates."""
        return 0 if self.phase == "router" else super().experts_of(batches)

    def finish_step(self) -> None:
        """Called by the step callback when the optimizer has stepped."""
        self.under_way = False
        if self.phase != "experts":
            self.routers.write()
        super().finish_step()
        if self.phase != "experts":
            of_step = self._take_num_tokens()
            self.phases[-1] = replace(self.phases[-1], num_tokens=self.phases[-1].num_tokens + of_step)
        if self.phases[-1].last_step == self.state.global_step:
            self._end_phase()

    @property
    def needs_checkpoint(self) -> bool:
        """Whether experts are selected anew before the next step, which can take long, or refuse."""
        step = self.state.global_step
        next_one = self.schedule.epoch_of(step)
        begins = self.phases[-1].last_step == step < self.state.max_steps
        return self.reselect is not None and begins and next_one.phase == "experts"

    def phase_state(self) -> tuple[tuple[PhaseRecord, ...], Mapping[str, Tensor]]:
        """The phases so far; what the one under way was begun with, and what the base routed like."""
        over = self.phases[-1].last_step <= self.state.global_step
        needed = self.settings.consistency_target == "base" or (self.phase != "experts" and not over)
        return tuple(self.phases), self.router_phase.tensors() if needed else {}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        path = Path(resume_from_checkpoint)
        self.phases = list(checkpoint.read_state(path).phases)
        for phase in self.phases:
            if phase.selected is not None:
                self.train_experts_of(phase.selected)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.routers.write()
        self.router_phase.load(checkpoint.load_phase(path))
