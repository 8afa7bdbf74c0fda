"""What studies share; a paper keeps its settings, arms, claims and prose.

Settings: `config`, judged by `checks`, kept by `record`. What is read:
`folders` (models), `problems` (rows). What is run: `programs`, `lab` (what the
arms of a seed share), `inputs`, `stages` (one trained stage), `kinds` (the
usual ones), `samples`, all started by `main`. What is said: `design` (names of
arms, stages, problem sets), `read` and `results`, `claims`, `verdicts` and
`remarks`, `power` (how often rules err), `galleries`, `tables`, `summary`,
`page`. Beside these: `stability`, which chooses RL's learning rate.
"""
