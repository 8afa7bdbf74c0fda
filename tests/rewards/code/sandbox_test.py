"""The sandbox: nothing is forged, nothing escapes, nothing is left behind."""

import os
import pathlib
import random
import signal
import socket
import threading

import pytest

from jaxvlm.rewards.code import (
  Level,
  Outcome,
  Sandbox,
  Tests,
  Unavailable,
  run_tests,
)
from tests.rewards.code import attacks

GOOD = "def f(x):\n  return x + 1\n"


@pytest.fixture(scope="module", params=list(Level), ids=lambda x: x.value)
def sandbox(request):
  try:
    with Sandbox(level=request.param, workers=2, timeout_s=2) as made:
      yield made
  except Unavailable as error:
    pytest.skip(f"this machine has no namespaces: {error}")


def test_right_and_wrong_programs(sandbox):
  found = sandbox.run(
    [
      (GOOD, attacks.TESTS),
      ("def f(x): return x", attacks.TESTS),
      ("def f(x: return", attacks.TESTS),
      ("def f(x): return {}[x]", attacks.TESTS),
      ("def g(x): return x", attacks.TESTS),
      ("f = lambda x: object()", attacks.TESTS),
      (GOOD, Tests("def check(candidate):\n  pass", "f")),
    ]
  )
  assert [verdict.outcome for verdict in found] == [
    Outcome.PASSED,
    Outcome.WRONG,
    Outcome.NOT_LOADED,
    Outcome.RAISED,
    Outcome.RAISED,
    Outcome.UNSENDABLE,
    Outcome.UNCALLED,
  ]
  assert found[1].detail == "in line 1 of the tests"
  assert found[2].detail == "SyntaxError"
  assert found[3].detail == "KeyError in line 1 of the tests"
  assert found[4].detail == "NameError in line 1 of the tests"
  assert [verdict.passed for verdict in found] == [True] + [False] * 6


def test_texts_that_are_no_program(sandbox):
  texts = ["", "\0", "x = 1\n" * 2_000_000, "\ud800", "é = 1"]
  found = sandbox.run([(text, attacks.TESTS) for text in texts])
  assert [verdict.outcome for verdict in found] == [
    Outcome.RAISED,
    *[Outcome.UNREADABLE] * 3,
    Outcome.RAISED,
  ]
  assert "NUL" in found[1].detail and "12000000" in found[2].detail


def test_answers_keep_their_type_and_arguments_arrive(sandbox):
  echo = "def f(*a, **k):\n  return a, k\n"
  tests = (
    "value = [1, -2**70, 0.5, 'é', b'x', None, True, {1: (2,)}, {3}, 1j, int]\n"
    "assert f(value, key=value) == ((value,), {'key': value})\n"
    "assert f(True)[0][0] is True and type(f(1)[0][0]) is int\n"
  )
  assert sandbox.run([(echo, tests)])[0].passed


def test_a_function_may_be_called_as_tests_are(sandbox):
  jobs = [
    (f"def {name}(x): return x + 1", f"assert {name}(1) == 2")
    for name in ("check", "test_f", "check_f")
  ]
  jobs.append((jobs[0][0], Tests(jobs[0][1], "check")))
  assert all(verdict.passed for verdict in sandbox.run(jobs))


def test_exceptions_of_the_program_reach_the_tests(sandbox):
  program = "def f(x):\n  if x < 0: raise ValueError('negative')\n  return x\n"
  tests = (
    "def test_negative():\n  try:\n    f(-1)\n"
    "  except ValueError:\n    return\n  assert False\n"
  )
  found = sandbox.run([(program, tests), ("def f(x): return x", tests)])
  assert [verdict.passed for verdict in found] == [True, False]


def test_classes_of_the_program_are_weaker(sandbox):
  program = "class Pair:\n  def __init__(self, a): self.a = a\n\n"
  program += "def f(p): return p.a\n"
  tests = Tests("assert f(Pair(3)) == 3")
  assert tests.in_process and tests.names == ("Pair", "f")
  found = sandbox.run([(program, tests), (program, "assert f(Pair(3)) == 4")])
  assert [verdict.passed for verdict in found] == [True, False]
  assert all(verdict.weaker for verdict in found)


def test_the_same_job_runs_once_and_verdicts_repeat(sandbox):
  program = (
    "import random, os\nv = random.random(), list({'a', 'b', 'c'}), id\n"
    "f = lambda: v[:2]\n"
  )
  tests = "assert f() is None"
  first = sandbox.run([(program, tests)] * 50)
  assert len({id(verdict) for verdict in first}) == 1
  # Seeds and the order of sets are the same in every process.
  one, two = "import random\ndef f(): return random.random()", " # another"
  tests = f"assert f() == {random.Random(0).random()!r}"
  assert all(v.passed for v in sandbox.run([(one, tests), (one + two, tests)]))


def test_nothing_of_an_attack_earns_a_reward(sandbox, tmp_path):
  secret = tmp_path / "secret"
  secret.write_text("secret")
  outside = tmp_path / "outside"
  outside.mkdir(mode=0o777)
  with socket.create_server(("127.0.0.1", 0)) as server:
    server.settimeout(0)
    port = server.getsockname()[1]
    where = port, str(secret), str(outside)
    programs = attacks.programs(*where)
    if sandbox.level is Level.NAMESPACES:
      programs |= attacks.hidden(*where)
      assert len(programs) >= 60
    # A right program first and last: the workers live on.
    jobs = [GOOD, *programs.values(), GOOD + "# again"]
    found = sandbox.run([(program, attacks.TESTS) for program in jobs])
    with pytest.raises(BlockingIOError):
      server.accept()
  escaped = [n for n, v in zip(programs, found[1:-1], strict=True) if v.passed]
  assert not escaped
  assert found[0].passed and found[-1].passed
  lost = [n for n, v in zip(programs, found[1:-1], strict=True)
          if v.outcome is Outcome.LOST]  # fmt: skip
  assert not lost
  assert not list(outside.iterdir())
  # Of each worker are left: who started it, itself, and its judge.
  assert len(_descendants(os.getpid(), "template")) <= 6


def _descendants(pid, word):
  """Returns processes below one whose command line has a word in it."""
  parents, lines = {}, {}
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      stat = (folder / "stat").read_text().rpartition(")")[2].split()
      lines[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
    except OSError:
      continue
    parents[int(folder.name)] = int(stat[1])
  out = []
  for one in parents:
    above = one
    while above in parents and above != pid:
      above = parents[above]
    if above == pid and one != pid and word in lines[one]:
      out.append(one)
  return out


@pytest.mark.slow
def test_attacks_again_and_again(sandbox, tmp_path):
  """Five times all of them, between right programs, in one pool."""
  programs = attacks.programs(1, str(tmp_path / "secret"), str(tmp_path))
  jobs = [
    (f"{program}\n# {turn}", attacks.TESTS)
    for turn in range(5)
    for program in (*programs.values(), GOOD)
  ]
  found = sandbox.run(jobs)
  right = len(programs)  # behind the attacks of every turn
  passed = [n % (right + 1) == right for n in range(len(jobs))]
  assert [verdict.passed for verdict in found] == passed
  assert len(_descendants(os.getpid(), "template")) <= 6


def test_wrong_solutions_earn_nothing(sandbox):
  jobs = [(p, tests) for tests, bad in attacks.WRONG.values() for p in bad]
  assert len(jobs) == 20
  assert not [v for v in sandbox.run(jobs) if v.passed]


def test_weaker_verdicts_are_marked_whatever_a_program_does(sandbox):
  """In one process a verdict can be forged; it is never called strong."""
  forger = (
    "class Pair: pass\nimport os\n"
    "for fd in range(3, 32):\n"
    "  try: os.write(fd, b'P 0 ')\n"
    "  except OSError: pass\n"
    "os._exit(0)\n"
  )
  found = sandbox.run([(forger, "assert f(Pair()) == 3")])[0]
  assert found.weaker


def test_batches_from_threads(sandbox):
  answers = {}

  def work(number):
    jobs = [(GOOD + f"# {number} {i}", attacks.TESTS) for i in range(3)]
    answers[number] = sandbox.run(jobs)

  threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert all(v.passed for found in answers.values() for v in found)
  assert len(answers) == 3


def test_nothing_is_kept_of_programs(sandbox):
  """Open files and files on disk stay as they were, whatever programs do."""
  messy = (
    "import os\nopen('left', 'w').write('x')\nos.mkdir('d')\n"
    "os.symlink('/', 'd/link')\nkept = [os.dup(0) for _ in range(9)]\n"
    "def f(x): return sorted(os.listdir('.')) == ['d', 'left']\n"
  )
  with Sandbox(level=sandbox.level, workers=1, timeout_s=10) as own:
    jobs = [(messy + f"# {n}", "assert f(1)") for n in range(20)]
    own.run(jobs[:2])
    before = _open_files()
    assert all(verdict.passed for verdict in own.run(jobs[2:]))
    assert _open_files() == before


def _open_files():
  """Returns the open files of every template below this process."""
  return [
    len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
    for pid in sorted(_descendants(os.getpid(), "template"))[:2]
  ]


def test_a_batch_of_nothing(sandbox):
  assert sandbox.run([]) == []


def test_one_program_by_itself():
  found = run_tests(
    GOOD, attacks.TESTS, timeout_s=20, memory_mb=128, level=Level.RLIMITS
  )
  assert found.passed and not found.weaker


@pytest.mark.parametrize(
  "settings,said",
  [
    ({"workers": 0}, "workers is 0"),
    ({"timeout_s": 0}, "timeout_s is 0"),
    ({"memory_mb": 1}, "memory_mb is 1"),
  ],
)
def test_settings_that_cannot_be(settings, said):
  with pytest.raises(ValueError, match=said):
    Sandbox(**settings)


def test_a_closed_sandbox_says_so():
  sandbox = Sandbox(level=Level.RLIMITS, workers=1)
  sandbox.close()
  with pytest.raises(ValueError, match="closed"):
    sandbox.run([(GOOD, attacks.TESTS)])


def test_a_worker_that_is_killed_costs_one_verdict(sandbox):
  """By the kernel, for want of memory: the batch goes on with a new one."""
  with Sandbox(level=sandbox.level, workers=1, timeout_s=4) as own:
    os.kill(own._workers[0]._process.pid, signal.SIGKILL)
    jobs = [(GOOD + f"# {number}", attacks.TESTS) for number in range(5)]
    found = own.run(jobs)
  assert [v.outcome for v in found].count(Outcome.LOST) == 1
  assert sum(v.passed for v in found) == 4
