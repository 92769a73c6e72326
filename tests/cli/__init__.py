"""The command line: what it accepts, prints, refuses and leaves behind."""
