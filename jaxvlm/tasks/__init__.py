"""Tasks: problems and how answers to them are scored. No jax in this room."""

from jaxvlm.tasks.task import Reward, Task, check_readable, one_by_one, score

__all__ = ["Reward", "Task", "check_readable", "one_by_one", "score"]
