"""How fast programs are judged: `python -m benchmarks.sandbox`.

Programs of a few lines with three tests each, all different, as a reward sees
them: first each with tests of its own, then eight programs to one set of
tests. Overhead is wall time of one program at a time, less that of the same
source and tests in this process. A bare `python -S` that runs one of them and
ends is the yardstick of the machine at that moment.
Responsive: how late a thread of this process wakes up that sleeps 1 ms at a
time while the batch runs.
"""

import os
import platform
import statistics
import subprocess
import sys
import threading
import time

from jaxvlm.rewards.code import Level, Sandbox, Tests, Unavailable

PROGRAMS = 1000
GROUP = 8
_BODY = """def f(x, y):
  total = {number}
  for value in range(x):
    total += value * y
  return total
"""


def programs(count: int, group: int) -> list[tuple[str, Tests]]:
  """Returns different programs; `group` of them share their tests."""
  out = []
  for number in range(count):
    offset = number // group
    tests = "\n".join(
      f"assert f({x}, {y}) == {offset + y * x * (x - 1) // 2}"
      for x, y in ((3, 2), (5, 7), (0, 1))
    )
    source = _BODY.format(number=offset) + f"# sample {number}\n"
    out.append((source, Tests(tests)))
  return out


def bare(jobs: list[tuple[str, Tests]]) -> float:
  """Returns seconds a program takes in this process, unguarded."""
  start = time.perf_counter()
  for source, tests in jobs:
    space: dict = {}
    exec(compile(source, "program", "exec"), space)
    exec(compile(tests.source, "tests", "exec"), space)
  return (time.perf_counter() - start) / len(jobs)


def fresh(job: tuple[str, Tests]) -> float:
  """Returns seconds of a new interpreter that runs one program."""
  source, tests = job
  walls = []
  for _ in range(20):
    start = time.perf_counter()
    command = [sys.executable, "-S", "-E", "-c", f"{source}\n{tests.source}"]
    subprocess.run(command, check=True)
    walls.append(time.perf_counter() - start)
  return statistics.median(walls)


class Sleeper(threading.Thread):
  """A thread that wants to wake up every millisecond."""

  def __init__(self):
    super().__init__(daemon=True)
    self.late: list[float] = []
    self.over = threading.Event()

  def run(self) -> None:
    while not self.over.is_set():
      start = time.perf_counter()
      time.sleep(0.001)
      self.late.append(time.perf_counter() - start - 0.001)


def measure(level: Level) -> list[str]:
  """Returns rows of the table, or none where the level is not available."""
  rows = []
  cores = len(os.sched_getaffinity(0))
  for group in (1, GROUP):
    jobs = programs(PROGRAMS, group)
    with Sandbox(level=level) as sandbox:
      sandbox.run(jobs[:20])
      sleeper = Sleeper()
      sleeper.start()
      start = time.perf_counter()
      found = sandbox.run(jobs[20:])
      rate = (PROGRAMS - 20) / (time.perf_counter() - start)
      sleeper.over.set()
      assert all(verdict.passed for verdict in found)
    with Sandbox(level=level, workers=1) as one:
      one.run(jobs[:20])
      walls = []
      for job in jobs[20:220]:
        start = time.perf_counter()
        one.run([job])
        walls.append(time.perf_counter() - start)
    overhead = statistics.median(walls) - bare(jobs)
    late = statistics.quantiles(sleeper.late, n=100)[94]
    rows.append(
      f"| {level.value} | {group} | {cores} | {rate:.0f} |"
      f" {overhead * 1e3:.1f} | {late * 1e3:.1f} | {fresh(jobs[0]) * 1e3:.1f} |"
    )
  return rows


def main() -> None:
  load = os.getloadavg()[0]
  print(
    f"{platform.machine()}, Python {platform.python_version()},"
    f" load {load:.1f} when it began\n"
  )
  print(
    "| level | programs to a set of tests | cores | programs/s | overhead, ms"
    " | late by (95 %), ms | bare python, ms |\n|---|---|---|---|---|---|---|"
  )
  for level in Level:
    try:
      for row in measure(level):
        print(row, flush=True)
    except Unavailable as error:
      print(f"| {level.value} | not available: {error} | | | | | |")


if __name__ == "__main__":
  main()
