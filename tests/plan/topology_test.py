"""Names of slices, known and unknown."""

import jax
import pytest

from jaxvlm.plan import topology


@pytest.mark.parametrize(
  "name,devices", [("v5e:8x8", 64), ("v5p:2x2x4", 16), ("tpu7x:2x2x1", 8)]
)
def test_devices_are_counted_without_a_compiler(name, devices):
  assert topology.parse(name).devices == devices


@pytest.mark.parametrize(
  "name", ["v5litepod:4x4", "v6e-8", "v5e", "v5e:8", "v5e:2x2x2", "v5p:2x2", ""]
)
def test_an_unknown_name_is_answered_with_known_ones(name):
  with pytest.raises(
    ValueError, match=r"v5e, v6e, v5p|expected \d positive"
  ) as e:
    topology.parse(name)
  assert repr(name) in str(e.value)


def test_the_compiler_knows_every_chip():
  pytest.importorskip("libtpu")
  for name in ("v5e:2x2", "v6e:2x2", "v5p:2x2x1", "v4:2x2x1", "tpu7x:2x2x1"):
    known = topology.parse(name)
    assert len(topology.devices(known)) == known.devices


def test_sides_that_no_host_fills_are_refused_with_the_compilers_words():
  pytest.importorskip("libtpu")
  with pytest.raises(ValueError, match="v5e:3x5.*chips_per_host_bounds"):
    topology.devices(topology.parse("v5e:3x5"))


def test_available_memory_is_what_the_compiler_says():
  pytest.importorskip("libtpu")
  for name in ("v5e:1x1", "v6e:1x1", "v5p:2x2x1", "v4:2x2x1", "tpu7x:2x2x1"):
    known = topology.parse(name)
    where = jax.sharding.SingleDeviceSharding(topology.devices(known)[0])
    huge = jax.ShapeDtypeStruct((2**39,), "int8", sharding=where)
    with pytest.raises(jax.errors.JaxRuntimeError) as e:
      jax.jit(lambda x: x + 1).lower(huge).compile()
    said = f"exceeds available HBM ({known.chip.hbm / topology.GIB:.2f}G)"
    assert said in str(e.value)


def test_a_missing_compiler_names_the_extra(monkeypatch):
  from jax.experimental import topologies

  def missing(**_):
    raise RuntimeError("libtpu.so not found")

  monkeypatch.setattr(topologies, "get_topology_desc", missing)
  with pytest.raises(ValueError, match=r"jaxvlm\[plan\]"):
    topology.devices(topology.parse("v5e:2x2"))
