"""Training: one loop for every task and family."""

from regard.training.averaging import MovingAverage, keep_mean, kept_mean, mean_for_use
from regard.training.checkpoints import Checkpoint, CheckpointStore
from regard.training.device import changes, choose_device, machine, settle
from regard.training.distributed import Ranks, join
from regard.training.evaluation import Report, validation_loss
from regard.training.events import (
    Evaluated,
    Event,
    Listener,
    Saved,
    Started,
    StepDone,
    Stopped,
    Warned,
)
from regard.training.loop import train
from regard.training.objective import Objective, Source
from regard.training.precision import make_precision
from regard.training.progress import Result, higher_is_better
from regard.training.schedules import make_schedule
from regard.training.settings import (
    CheckpointSettings,
    EvaluationSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
)
from regard.training.state import load_weights, weights_for_use
from regard.training.writers import MetricsWriter, TensorBoardWriter, TextWriter, as_line, counted

__all__ = [
    "Checkpoint",
    "CheckpointSettings",
    "CheckpointStore",
    "Evaluated",
    "EvaluationSettings",
    "Event",
    "Listener",
    "MetricsWriter",
    "MovingAverage",
    "Objective",
    "OptimizerSettings",
    "Ranks",
    "Report",
    "Result",
    "Saved",
    "ScheduleSettings",
    "Source",
    "Started",
    "StepDone",
    "Stopped",
    "TensorBoardWriter",
    "TextWriter",
    "TrainingSettings",
    "Warned",
    "as_line",
    "changes",
    "choose_device",
    "counted",
    "higher_is_better",
    "join",
    "keep_mean",
    "kept_mean",
    "load_weights",
    "machine",
    "make_precision",
    "make_schedule",
    "mean_for_use",
    "settle",
    "train",
    "validation_loss",
    "weights_for_use",
]
