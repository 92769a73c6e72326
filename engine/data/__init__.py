"""From files to batches: formats, messages, tokens, and a plan that is known before step 1."""
