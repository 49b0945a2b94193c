"""From a method and data to a run: configuration, learner, checkpoints, history, planning."""
