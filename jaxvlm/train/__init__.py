"""Training: state, optimizer, one jitted step, objectives, loop."""
