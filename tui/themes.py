"""The program's own colours; any other Textual theme works too."""

from __future__ import annotations

from textual.theme import Theme

LORA_DARK = Theme(
    name="lora-dark",
    primary="#f0a45d",
    secondary="#6cc6d9",
    accent="#c49bea",
    success="#8ccb7a",
    warning="#ecc85f",
    error="#ef6f78",
    foreground="#d7dce4",
    background="#101319",
    surface="#171b23",
    panel="#1d222c",
    dark=True,
    variables={
        "footer-key-foreground": "#f0a45d",
        "footer-background": "#171b23",
        "footer-description-foreground": "#a9b1bf",
        "block-cursor-background": "#f0a45d",
        "block-cursor-foreground": "#101319",
    },
)
LORA_LIGHT = Theme(
    name="lora-light",
    primary="#b8560f",
    secondary="#0b7285",
    accent="#7048b0",
    success="#2f7d32",
    warning="#946200",
    error="#c02f3a",
    foreground="#22262e",
    background="#faf8f4",
    surface="#f1eee7",
    panel="#e8e4da",
    dark=False,
    variables={
        "footer-key-foreground": "#b8560f",
        "footer-background": "#f1eee7",
        "footer-description-foreground": "#565c66",
    },
)
THEMES = (LORA_DARK, LORA_LIGHT)
DEFAULT_THEME = LORA_DARK.name
WITHOUT_EMOJI = "CommandPalette SearchIcon { display: none; }"
"""Not every terminal has the palette's magnifying glass."""
