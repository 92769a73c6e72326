"""What events mean, in one line each for a person."""

from __future__ import annotations

from engine import events as ev


def in_words(event: ev.Event) -> str:  # noqa: C901 - one short case per kind of event
    """Say what an event means in one line for a person; nothing for steps and host samples."""
    match event:
        case (
            ev.Progress(message=message) | ev.Warned(message=message) | ev.Trouble(message=message)
        ):
            return message
        case ev.DataRead(preflight=data):
            return f"Data: {data.summary()}"
        case ev.Started():
            return (
                f"Training {event.name}: {event.iterations:,} iterations, "
                f"{event.trainable_parameters:,} trainable parameters, {event.step_reason}"
            )
        case ev.Probed():
            return _probe_in_words(event)
        case ev.Evaluated():
            best = ", the best so far" if event.best else ""
            return f"Validation loss {event.val_loss:.3f} at {event.iteration:,}{best}"
        case ev.CheckpointSaved():
            return f"Saved at {event.iteration:,} ({event.reason})"
        case ev.CheckpointDeleted():
            return f"Deleted the checkpoint at {event.iteration:,}"
        case ev.Guard():
            return f"{_GUARD_WORDS[event.action]}: {event.why}{_gained(event)}"
        case ev.Paused():
            return f"Paused at {event.iteration:,} ({event.reason}{_came_back(event.freed)})"
        case ev.Resumed():
            return f"Resumed at {event.iteration:,} after {event.paused_seconds:.0f} s"
        case ev.PolicyChanged():
            return _POLICY_WORDS[event.policy]
        case ev.Slept():
            return f"The machine was asleep for {duration(event.seconds)}"
        case ev.Sampled():
            who = "base" if event.base else "adapter"
            return f"Sample ({who}) at {event.iteration:,}: {event.text}"
        case ev.Tested():
            return (
                f"Test loss {event.test_loss:.3f}, perplexity {event.perplexity:,.2f} "
                f"on {event.rows:,} rows"
            )
        case ev.Ended():
            return f"{event.status.capitalize()} at {event.iteration:,}: {event.reason}"
        case _:
            return ""


_GUARD_WORDS: dict[ev.GuardAction, str] = {
    "shrink": "The guard had a step take less memory",
    "pause": "The guard paused the run",
    "resume": "The guard went on",
    "abort": "The guard ended the run",
    "skip_batch": "The guard left a batch out",
    "reload": "The guard went back to a checkpoint",
}
_POLICY_WORDS: dict[ev.Policy, str] = {
    "watch": "When memory runs short: watch, do nothing",
    "protect": "When memory runs short: protect, shrink first, then pause",
    "abort": "When memory runs short: abort, save and stop",
}


def _gained(event: ev.Guard) -> str:
    """What an action of the guard came to: rows, bytes, what to change."""
    rows = "" if event.micro_batch is None else f"; micro-batch {event.micro_batch}"
    offer = ", ".join(f"{key}={value}" for key, value in event.offer.items())
    return f"{rows}{_came_back(event.freed)}{f'; try {offer}' if offer else ''}"


def _came_back(freed: int | None) -> str:
    if not freed or freed < 0:
        return ""
    return (
        f"; {freed / 1e9:.1f} GB came back" if freed >= 1e9 else f"; {freed / 1e6:.0f} MB came back"
    )


def duration(seconds: float) -> str:
    """Say a time as a person would, in hours and minutes, or in seconds."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def _probe_in_words(event: ev.Probed) -> str:
    planned, peak = event.planned / 1e9, event.peak / 1e9
    digits = 2 if peak >= 1 else 3
    fewer = ""
    if event.micro_batch < event.planned_micro_batch:
        fewer = f"; {event.micro_batch} at a time instead of {event.planned_micro_batch}"
    return (
        f"Tried the widest step ({event.rows} × {event.width:,} tokens): planned "
        f"{planned:.{digits}f} GB, probed {peak:.{digits}f} GB, {event.seconds:.3g} s a step{fewer}"
    )
