"""Export: what a run trained becomes a folder that others load."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data import diagrams, folder_files, images
from jaxvlm.data.sources.world import WorldRows
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.lora import init_lora
from jaxvlm.rollout.answer import Request
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.tools import folder as folders
from jaxvlm.tools import publish
from jaxvlm.train.checkpoint import Checkpoints
from jaxvlm.train.freeze import merge_params, split_params
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state
from tests import compiling, tiny

OPTIMIZER = make_optimizer(OptimizerConfig(1e-2))
MESH = make_mesh(MeshConfig(), jax.devices()[:1])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  tiny.write_folder(folder)
  return folder


def saved(folder, model, trainable, steps=(3,), **identity):
  identity = {"student": models.fingerprint(model), **identity}
  checkpoints = Checkpoints(folder, identity=identity)
  for step in steps:
    scaled = jax.tree.map(lambda x, s=step: x * s, trainable)
    checkpoints.save(step, init_state(scaled, OPTIMIZER))
  return folder


def moved(tree):
  return jax.tree.map(lambda x: jnp.asarray(x) + 0.01, tree)


def assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_all_parameters_and_what_lies_beside_them(tmp_path, model):
  config, base = qwen2_5_vl.load_pretrained(model)
  trained = moved(base)
  where = saved(tmp_path / "c", model, trained, steps=(1, 2))
  out = tmp_path / "out"
  assert publish.export(model, where, out, MESH) == 2
  found_config, found = qwen2_5_vl.load_pretrained(out)
  assert found_config == config
  assert_equal(found, jax.tree.map(lambda x: np.asarray(x) * 2, trained))
  for name in ("tokenizer.json", "tokenizer_config.json"):
    assert (out / name).read_bytes() == (model / name).read_bytes()
  assert publish.export(model, where, out, MESH, step=1) == 1
  assert_equal(qwen2_5_vl.load_pretrained(out)[1], jax.device_get(trained))


def test_what_a_folder_lacks_of_settings_is_written(tmp_path, model):
  assert not (model / "preprocessor_config.json").exists()
  _, base = qwen2_5_vl.load_pretrained(model)
  where = saved(tmp_path / "c", model, moved(base), steps=(1,))
  publish.export(model, where, tmp_path / "out", MESH)
  config = qwen2_5_vl.Config.from_folder(model)
  before = chats.load(model, config.layout)
  after = chats.load(tmp_path / "out", config.layout)
  assert after.pictures == before.pictures and after.eos_ids == before.eos_ids
  stored = json.loads((tmp_path / "out/preprocessor_config.json").read_text())
  assert stored == folder_files.preprocessor_config(before)
  # What is there is copied, not written again.
  (model / "generation_config.json").write_text('{"eos_token_id": 3}')
  publish.export(model, where, tmp_path / "out", MESH)
  (model / "generation_config.json").unlink()
  kept = (tmp_path / "out/generation_config.json").read_text()
  assert kept == '{"eos_token_id": 3}'


@pytest.fixture(scope="module")
def published(tmp_path_factory):
  """nano-base with another norm, exported."""
  out = tmp_path_factory.mktemp("published")
  model = assets.folder("nano-base")
  _, base = qwen2_5_vl.load_pretrained(model)
  part = {"model": {"norm": {"weight": base["model"]["norm"]["weight"] * 1.1}}}
  publish.export(model, saved(out / "c", model, part, (1,)), out / "m", MESH)
  return out / "m"


def question(published):
  """A picture that is made larger, its question, and our chat."""
  row = WorldRows(diagrams.VALIDATION, 1)[0]
  picture = images.load(row.images[0]).resize((33, 84))
  return row.question, picture, folders.load(str(published))


def test_transformers_reads_an_exported_folder(published):
  """Same pixels, same tokens, same greedy answer."""
  torch = pytest.importorskip("torch", reason="torch is the parity reference")
  import transformers

  from tests.reference import hf

  text, picture, ours = question(published)
  # AutoProcessor wants torchvision for its videos; its parts do not.
  pictures = transformers.AutoImageProcessor.from_pretrained(
    published, backend="pil"
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(published)
  seen = pictures(images=[picture], return_tensors="np")
  grid = tuple(int(n) for n in seen["image_grid_thw"][0])
  patches, found = images.patchify(
    ours.config.layout, picture, *ours.chat.pictures
  )
  assert found == grid == (1, 8, 4)  # 112 × 56: enlarged to 56² pixels or more
  np.testing.assert_allclose(patches, seen["pixel_values"], atol=1e-6)
  content = [{"type": "image"}, {"type": "text", "text": text}]
  prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": content}],
    tokenize=False,
    add_generation_prompt=True,
  )
  pads = chats.IMAGE_PAD * (grid[1] * grid[2] // 4)
  ids = tokenizer(prompt.replace(chats.IMAGE_PAD, pads))["input_ids"]
  assert ids == ours.chat.prompt(text, [grid])
  inputs = hf.Inputs(
    np.array([ids]), np.ones((1, len(ids)), np.int64), *seen.values()
  )
  theirs = transformers.AutoModelForImageTextToText.from_pretrained(
    published, dtype=torch.float32, attn_implementation="eager"
  )
  expected = theirs.generate(**inputs.torch(ours.config), max_new_tokens=40)
  request = Request(
    text, (np.asarray(picture),), sampling=Sampling(0.0), max_new_tokens=40
  )
  answer = [word.token for word in ours.answer(request)]
  assert answer == expected[0, len(ids) :].tolist()
  assert answer[-1] == ours.chat.eos_id and len(answer) > 5


def test_auto_processor_reads_an_exported_folder(published):
  try:
    import torchvision  # noqa: F401
  except (ImportError, RuntimeError) as e:  # the latter: of another torch
    pytest.skip(f"AutoProcessor needs torchvision: {e}")
  import transformers

  text, picture, ours = question(published)
  picture = picture.resize((112, 84))  # as it is: torchvision resizes otherwise
  processor = transformers.AutoProcessor.from_pretrained(published)
  content = [{"type": "image"}, {"type": "text", "text": text}]
  prompt = processor.apply_chat_template(
    [{"role": "user", "content": content}], add_generation_prompt=True
  )
  seen = processor(text=[prompt], images=[picture], return_tensors="np")
  patches, grid = images.patchify(
    ours.config.layout, picture, *ours.chat.pictures
  )
  assert tuple(seen["image_grid_thw"][0]) == grid
  np.testing.assert_allclose(patches, seen["pixel_values"], atol=1e-5)
  assert seen["input_ids"][0].tolist() == ours.chat.prompt(text, [grid])


def test_a_trained_decoder_joins_its_frozen_tower(tmp_path, model):
  _, base = qwen2_5_vl.load_pretrained(model)
  part, rest = split_params(base, "visual/")
  where = saved(tmp_path / "c", model, moved(part), steps=(1,))
  publish.export(model, where, tmp_path / "out", MESH)
  expected = merge_params(jax.device_get(moved(part)), rest)
  assert_equal(qwen2_5_vl.load_pretrained(tmp_path / "out")[1], expected)


def test_a_merged_model_says_what_base_and_adapters_say(
  tmp_path, model, monkeypatch
):
  config, base = qwen2_5_vl.load_pretrained(model)
  adapters = init_lora(
    base, jax.random.key(0), rank=2, alpha=4.0, pattern="model/"
  )
  adapters = jax.tree.map(lambda x: x + 0.1, adapters)
  where = saved(tmp_path / "c", model, adapters, steps=(1,))
  monkeypatch.chdir(tmp_path)  # a path may be relative
  publish.export(model, where.relative_to(tmp_path), tmp_path / "out", MESH)
  _, merged = qwen2_5_vl.load_pretrained(tmp_path / "out")
  bound, batch = qwen2_5_vl.bind(config), tiny.batch()
  found, expected, before = (
    np.asarray(bound.forward(p, batch))
    for p in (merged, merge_params(base, adapters), base)
  )
  # Twice rounded in float32: x (W + s A B) against x W + s (x A) B.
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  assert np.abs(found - before).max() > 0.1


def test_what_cannot_be_exported_is_named(tmp_path, model):
  _, base = qwen2_5_vl.load_pretrained(model)
  other = tmp_path / "other"
  tiny.write_folder(other, seed=1)
  where = saved(tmp_path / "c", model, base)
  out = tmp_path / "out"
  for arguments, message in [
    ((model, tmp_path / "none", out), "no manifest, expected a whole"),
    ((other, where, out), "step 3 was trained from other weights"),
    ((model, where, model), "the folder that the run began with"),
  ]:
    with pytest.raises(ValueError, match=message):
      publish.export(*arguments, MESH)
  foreign = {"model": {"layers": {"gate": {"kernel": jnp.ones((2, 2))}}}}
  with pytest.raises(ValueError, match="layers/gate/kernel, which the model"):
    publish.joined(base, foreign)
  file = next(f for f in sorted((where / "3").rglob("*")) if f.is_file())
  file.write_bytes(file.read_bytes() + b" ")
  with pytest.raises(ValueError, match="file .* has changed, expected a whole"):
    publish.export(model, where, out, MESH)
  assert not out.exists()


@pytest.mark.slow
def test_the_command_on_four_devices(tmp_path, model):
  _, base = qwen2_5_vl.load_pretrained(model)
  where, out = saved(tmp_path / "c", model, moved(base)), tmp_path / "out"
  done = subprocess.run(
    [
      *(sys.executable, "-m", "jaxvlm.tools.main", "export"),
      *(f"--model_dir={model}", f"--checkpoints={where}", f"--out={out}"),
      *("--mesh.fsdp=2", "--mesh.tensor=2"),
    ],
    capture_output=True,
    text=True,
    env=compiling.environment(JAX_NUM_CPU_DEVICES="4"),
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == f"{out}: step 3 of {where}\n"
  assert done.stderr == ""  # what libraries report is asked for by --verbose
  expected = jax.tree.map(lambda x: np.asarray(x) * 3, moved(base))
  assert_equal(qwen2_5_vl.load_pretrained(out)[1], expected)
