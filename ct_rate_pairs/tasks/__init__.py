"""
The tasks that can be made from the same volumes and reports. A new task needs a file here and a line in `TASKS`, and a
file and a line in `ct_rate_pairs.eval.tasks`.
"""

from .errors import Errors
from .matching import Matching
from .own_questions import OwnQuestions
from .report import ReportWriting
from .task import Asked, Scans, Task
from .vqa import Questions


TASKS: dict[str, type[Task]] = {
    "report": ReportWriting,
    "vqa": Questions,
    "matching": Matching,
    "errors": Errors,
    "own_questions": OwnQuestions,
}
# The options of the tasks, which are base classes of `CTRatePairsConfig`.
OPTIONS = tuple(task.Options for task in TASKS.values() if task.Options)

__all__ = [
    "OPTIONS",
    "TASKS",
    "Asked",
    "Errors",
    "Matching",
    "OwnQuestions",
    "Questions",
    "ReportWriting",
    "Scans",
    "Task",
]
