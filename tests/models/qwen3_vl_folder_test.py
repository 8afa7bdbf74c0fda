"""Qwen3-VL from a folder: pictures, tokens, weights, answers, adapters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvlm import models
from jaxvlm.data import chat, folder_files, images, processor
from jaxvlm.models import attention
from jaxvlm.models.qwen3_vl import presets
from jaxvlm.models.remat import Remat
from jaxvlm.rollout.answer import Request
from jaxvlm.sampling import Sampling
from jaxvlm.tools import folder as folders
from tests import tiny
from tests.models import qwen3_vl_folders
from tests.models.qwen3_vl_folders import PICTURES, write_json
from tests.models.qwen3_vl_parity_test import CASES
from tests.reference import families

LAYOUT = presets.QWEN3_4B.layout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  where = tmp_path_factory.mktemp("qwen3_vl")
  qwen3_vl_folders.write(where)
  return where


def reference_pictures(folder):
  module = pytest.importorskip(
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
    reason="the processor of transformers needs torch",
    exc_type=ImportError,
  )
  return module.Qwen2VLImageProcessorPil.from_pretrained(
    folder, local_files_only=True
  )


def drawn(width: int, height: int) -> Image.Image:
  rng = np.random.default_rng(width)
  return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(400, 300), (31, 47), (32, 1500), (640, 640)])
def test_pictures_are_those_of_the_processor(tmp_path, size):
  write_json(tmp_path / "preprocessor_config.json", PICTURES)
  found = processor.settings(tmp_path, LAYOUT)
  picture = drawn(*size)
  x, grid = images.patchify(LAYOUT, picture, *found)
  want = reference_pictures(tmp_path)(images=[picture], return_tensors="np")
  assert [list(grid)] == want["image_grid_thw"].tolist()
  np.testing.assert_allclose(x, want["pixel_values"], atol=2e-6, rtol=0)


def test_pictures_of_an_unknown_kind_are_refused(tmp_path):
  with pytest.raises(
    ValueError, match="which means 14, but config.json says 16"
  ):
    processor.settings(tmp_path, LAYOUT)


def test_what_we_write_of_pictures_is_read_back(folder, tmp_path):
  found = chat.load(folder, tiny.QWEN3.layout)
  folder_files.complete(tmp_path, found)
  assert processor.settings(tmp_path, tiny.QWEN3.layout) == found.pictures


def test_token_ids_are_those_of_the_processor(folder):
  from transformers.models.qwen3_vl import processing_qwen3_vl

  ours = chat.load(folder, tiny.QWEN3.layout)
  parts = [drawn(24, 40), drawn(60, 16)]
  theirs = reference_pictures(folder)
  seen = theirs(images=parts, return_tensors="np")
  content = [
    {"type": "text", "text": "Compare "},
    {"type": "image"},
    {"type": "text", "text": " with "},
    {"type": "image"},
    {"type": "text", "text": ": is x² = 12 1/2?"},
  ]
  text = ours.tokenizer.apply_chat_template(
    [{"role": "user", "content": content}],
    tokenize=False,
    add_generation_prompt=True,
  )
  # Its constructor wants a processor of videos, which needs torchvision.
  expand = processing_qwen3_vl.Qwen3VLProcessor.__new__(
    processing_qwen3_vl.Qwen3VLProcessor
  )
  expand.image_token, expand.image_processor = chat.IMAGE_PAD, theirs
  pieces = text.split(chat.IMAGE_PAD)
  expanded = pieces[0] + "".join(
    expand.replace_image_token(seen, i) + piece
    for i, piece in enumerate(pieces[1:])
  )
  grids = [
    images.grid_of(ours.layout, *part.size, ours.pictures.budget)
    for part in parts
  ]
  question = "Compare <image> with <image>: is x² = 12 1/2?"
  assert ours.prompt(question, grids) == ours.tokenizer.encode(expanded)


def test_folders_go_both_ways(tmp_path):
  families.check_folders_go_both_ways(tmp_path, CASES["three_pictures"])


@pytest.mark.slow
def test_an_answer_is_drawn_from_the_scores_of_its_picture(folder):
  model = folders.load(str(folder))
  pictures = [np.asarray(drawn(20, 28)), np.asarray(drawn(36, 12))]
  batch = model.ask("What is x?", pictures)
  assert (batch.prompts.image_slots >= 0).any()
  scores = models.logits(model.config, model.params, batch)
  known = np.asarray(scores)[0, -1, : model.chat.vocab_size]
  sampling = Sampling(0.0)
  request = Request("What is x?", pictures, sampling=sampling, max_new_tokens=1)
  (word,) = model.answer(request)
  assert word.token == known.argmax()


@functools.cache
def params():
  return tiny.params(tiny.QWEN3, scale=0.1)


@pytest.mark.slow
def test_adapters_and_8_bits_compute_what_their_matrices_do():
  """All matrices, those of the tower and of its mergers as well."""
  batch = tiny.batch(config=tiny.QWEN3)
  families.check_adapters_and_8_bits(tiny.QWEN3, batch, "", rounding=5e-6)


@pytest.mark.parametrize(
  "remat",
  [
    pytest.param(x, marks=() if x is Remat.FULL else pytest.mark.slow)
    for x in Remat
  ],
)
def test_unrolled_layers_trace_under_every_remat(remat):
  batch = tiny.batch(config=tiny.QWEN3)
  bound = models.bind(tiny.QWEN3, remat=remat)
  tree = bound.unstack(params())
  gradient = jax.eval_shape(
    jax.grad(lambda x: bound.forward(x, batch).sum()), tree
  )
  assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, tree)


def value_and_gradient(bound, tree):
  batch = tiny.batch(config=tiny.QWEN3)

  def loss(tree):
    hidden = bound.forward(tree, batch)
    return jnp.sum(jnp.sin(hidden)), hidden

  return jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(tree))


@pytest.mark.slow
def test_remat_unrolling_and_splash_change_nothing():
  want, hidden = value_and_gradient(models.bind(tiny.QWEN3), params())
  kernel = functools.partial(attention.splash, interpret=True)
  bound = models.bind(tiny.QWEN3)
  unrolled, same = value_and_gradient(bound, bound.unstack(params()))
  np.testing.assert_allclose(same, hidden, atol=1e-5)
  names = (("visual", "blocks"), ("model", "layers"))
  for part, stack in names:
    unrolled[part][stack] = jax.tree.map(
      lambda *x: np.stack(x), *unrolled[part][stack]
    )
  found = [unrolled]
  for options in ({"remat": Remat.FULL}, {"attend": kernel}):
    bound = models.bind(tiny.QWEN3, **options)
    gradient, same = value_and_gradient(bound, params())
    np.testing.assert_allclose(same, hidden, atol=2e-5)
    found.append(gradient)
  for gradient in found:
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(
        x, y, atol=1e-4 * np.abs(y).max()
      ),
      gradient,
      want,
    )


@pytest.mark.slow
def test_a_rollout_has_the_statistics_of_its_tokens():
  families.check_a_rollout_has_the_statistics_of_its_tokens(
    tiny.QWEN3, tiny.batch(config=tiny.QWEN3)
  )
