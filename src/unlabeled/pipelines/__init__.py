"""Methods of several trainings, or outside the protocol of `Method`."""
