"""What validation shares with training, as the README states it."""

from experiments.stage1_entropy import overlap as command
from jaxvlm.data import diagrams
from jaxvlm.data.diagrams import world
from jaxvlm.data.diagrams.overlap import overlap


def test_the_overlap_is_that_of_the_drawn_problems():
  train, asked = 40, 21
  found = overlap(world.RL_TRAIN, train, world.VALIDATION, asked)
  drawn = [diagrams.sample(world.RL_TRAIN, i) for i in range(train)]
  seen = {world.content(p.family, p.seed) for p in drawn}
  want = {family: [0, 0] for family in diagrams.IN_DOMAIN}
  for i in range(asked):
    problem = diagrams.sample(world.VALIDATION, i)
    content = world.content(problem.family, problem.seed)
    want[problem.family][0] += content in seen
    want[problem.family][1] += 1
  assert found == {name: tuple(pair) for name, pair in want.items()}
  assert 0 < sum(some for some, _ in found.values()) < asked


def test_what_the_readme_says_of_the_laptop_study(capsys):
  command.main()
  said = capsys.readouterr().out
  assert "in 240 SFT traces: 42 of 210" in said
  rest = said[said.index("in 4096 RL problems: 120 of 210") :].split("\n")[1:8]
  families = {line.split()[0]: int(line.split()[1]) for line in rest}
  new = {"triangle", "exterior", "parallel"}
  assert families == {
    name: 0 if name in new else 30 for name in diagrams.IN_DOMAIN
  }
