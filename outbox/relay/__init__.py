"""The relay: one pass reads the backlog, fans out, claims and dispatches; the loop repeats it."""
