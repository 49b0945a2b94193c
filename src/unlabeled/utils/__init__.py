"""Files, compiled code, drawing and state that must be restored."""
