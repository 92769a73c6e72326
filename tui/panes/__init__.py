"""The dashboard's panes, one a file."""
