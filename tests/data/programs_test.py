"""The world of programs: tests that decide, solutions that pass them."""

import ast
import random
import re

import pytest

from jaxvlm.data import programs
from jaxvlm.data.programs import problem as problems
from jaxvlm.data.sources.programs import Mixture, ProgramRows

COUNT = 90
SPLITS = (programs.PRETRAIN, programs.RL_TRAIN, programs.TEST)


def _some(split, count=COUNT):
  return [programs.sample(split, i) for i in range(count)]


def _passes(program: str, tests: str) -> bool:
  """The world's own programs, run here: they are harmless."""
  names = {}
  exec(program, names)
  try:
    exec(tests, names)
  except Exception:
    return False
  return True


def _shown(problem):
  """The (input, output) pairs of a docstring, read as a person would."""
  found = re.findall(r">>> f\((.*)\)\n {4}(.*)\n", problem.prompt)
  return [(ast.literal_eval(a), ast.literal_eval(b)) for a, b in found]


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.name)
def test_every_solution_passes(split):
  for problem in _some(split):
    assert set(problem.solutions) == set(programs.STYLES)
    for style, program in problem.solutions.items():
      assert _passes(program, problem.tests), (style, program, problem.tests)


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.name)
def test_docstrings_show_what_solutions_do(split):
  for problem in _some(split):
    shown = _shown(problem)
    assert [x for x, _ in shown] == list(problem.examples)
    for program in problem.solutions.values():
      names = {}
      exec(program, names)
      # The argument of a list is not changed by what is done to it.
      assert [names["f"](x) for x, _ in shown] == [y for _, y in shown]


def test_a_table_of_the_examples_earns_nothing():
  """Whatever it answers elsewhere: a constant, the input, the nearest."""
  for problem in _some(programs.TEST) + _some(programs.PRETRAIN):
    table = _shown(problem)
    elsewhere = ["x", "None", *(repr(y) for _, y in table)]
    if isinstance(table[0][0], int):
      elsewhere.append(f"min({table!r}, key=lambda e: abs(e[0] - x))[1]")
    for other in elsewhere:
      pairs = " or ".join(f"x == {x!r} and [{y!r}]" for x, y in table)
      cheat = f"def f(x):\n  return ({pairs} or [{other}])[0]\n"
      assert _passes(cheat, f"assert f({table[0][0]!r}) == {table[0][1]!r}")
      assert not _passes(cheat, problem.tests), (cheat, problem.tests)


def test_tests_repeat_no_example_and_tell_wrong_constants():
  for problem in _some(programs.PRETRAIN):
    asked = re.findall(r"assert f\((.*)\) ==", problem.tests)
    assert len(asked) == 6 == len(set(asked))
    assert not set(asked) & {repr(x) for x in problem.examples}
    for operation, which in problems.slots(problem.chain):
      low, high = problem.chain.operations[operation].ranges[which]
      right = problem.chain.constants[operation][which]
      for constant in set(range(low, high + 1)) - {right}:
        other = problem.chain.replaced((operation, which), constant)
        program = problems.direct(other, problem.argument, random.Random(0))
        assert not _passes(program, problem.tests)


def test_examples_decide_what_the_docstring_keeps_silent():
  """Any choice of silent constants that fits the examples passes the tests."""
  silent = 0
  for problem in _some(programs.TEST):
    places = problems.silent(problem.chain, problem.hidden)
    silent += bool(places)
    if len(places) != 1:
      continue
    ((operation, which),) = places
    low, high = problem.chain.operations[operation].ranges[which]
    for constant in range(low, high + 1):
      other = problem.chain.replaced(places[0], constant)
      if all(other(x) == y for x, y in _shown(problem)):
        program = problems.direct(other, problem.argument, random.Random(0))
        assert _passes(program, problem.tests)
  assert silent == COUNT  # the hard split always asks for a constant


def test_a_problem_is_a_function_of_its_seed():
  for split in SPLITS:
    for problem in _some(split, 12):
      again = programs.generate(problem.family, problem.seed, hard=split.hard)
      assert again.prompt == problem.prompt
      assert again.tests == problem.tests
      assert again.solutions == problem.solutions
  one, other = (_some(split, 30) for split in SPLITS[1:])
  assert not {p.seed for p in one} & {p.seed for p in other}


def test_contents_of_validation_are_kept_from_training():
  def contents(split):
    found = [p for p in _some(split, 300) if p.family == "compose"]
    return {
      (tuple(op.name for op in p.chain.operations), p.chain.constants)
      for p in found
    }

  taught = contents(programs.RL_TRAIN) | contents(programs.SFT_TRACES)
  asked = contents(programs.TEST) | contents(programs.VALIDATION)
  assert len(taught) > 60 and len(asked) > 60
  assert not taught & asked


def test_problems_have_several_solutions():
  for problem in _some(programs.TEST):
    assert len(set(problem.solutions.values())) == len(programs.STYLES)


def test_careless_work_is_right_one_time_in_five():
  rng = random.Random(0)
  found = [
    _passes(problem.careless(rng), problem.tests)
    for problem in _some(programs.TEST)
    for _ in range(4)
  ]
  # Standard error: sqrt(.2 · .8 / 360) = 0.021.
  assert abs(sum(found) / len(found) - 0.2) < 0.08


def test_rows_are_lazy_and_answered_by_a_mixture():
  rows = ProgramRows(programs.TEST, 2**31, Mixture(("worked",), texts=2))
  row = rows[:8][7]
  problem = programs.sample(programs.TEST, 7)
  assert (row.question, row.reference) == (problem.prompt, problem.tests)
  assert row.responses == (problem.solutions["worked"],) * 2
  assert rows[5:8][2] == row
  assert rows.identity != ProgramRows(programs.TEST, 2**31).identity
  with pytest.raises(IndexError):
    rows[:8][8]


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="no family 'sorting'; expected one of"):
    programs.generate("sorting", 0)
  with pytest.raises(ValueError, match="index -1 of split 'test'; expected 0"):
    programs.sample(programs.TEST, -1)
  with pytest.raises(ValueError, match="styles are .*'chain'.*'worked'"):
    Mixture(("chain",))
