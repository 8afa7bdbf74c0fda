"""Speeds of rotary pairs, against transformers' at published settings."""

import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.models import rope
from jaxvlm.models.rope import Linear, Llama3, Rope
from tests.reference import hf

SETTINGS = {
  "plain": Rope(1e6),
  "linear": Rope(1e5, Linear(4.0)),
  "llama 3.1": Rope(5e5, Llama3(8.0, 1.0, 4.0, 8192)),
  "llama 3.2": Rope(5e5, Llama3(32.0, 1.0, 4.0, 8192)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_speeds_are_those_of_transformers(name):
  full = models.PRESETS["deepseek-coder-6.7b"]
  fields = models.family_of(full).write(full)
  fields.pop("rope_scaling")
  fields |= rope.write(SETTINGS[name])
  raw = hf.transformers.AutoConfig.for_model(**fields)
  theirs = hf.rotary_speeds(raw)
  ours = np.asarray(rope.frequencies(SETTINGS[name], full.head_dim))
  np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_llama_3_keeps_fast_pairs_and_slows_the_others():
  found = rope.frequencies(SETTINGS["llama 3.1"], 128)
  plain = 5e5 ** (-np.arange(0, 128, 2) / 128)
  rounds = 8192 * plain / (2 * np.pi)
  ratio = np.asarray(found, np.float64) / plain
  np.testing.assert_allclose(ratio[rounds > 4], 1, rtol=1e-6)
  np.testing.assert_allclose(ratio[rounds < 1], 1 / 8, rtol=1e-6)
  between = ratio[(rounds > 1) & (rounds < 4)]
  assert len(between) > 3 and (np.diff(between) < 0).all()
  assert between.max() < 1 and between.min() > 1 / 8
