"""Tests of the data room: from files to batches."""
