"""Methods that are several trainings one after another, or none of the protocol."""
