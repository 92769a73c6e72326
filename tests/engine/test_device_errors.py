"""What MLX raises when the device gives up is answered with what to do."""

from __future__ import annotations

import pytest

from engine.device_errors import device_error
from engine.errors import DeviceError, RunError

METAL = "[METAL] Command buffer execution failed: "
IO_GPU = "kIOGPUCommandBufferCallbackError"


@pytest.mark.parametrize(
    ("text", "kind", "hint"),
    [
        (
            f"{METAL}Impacting Interactivity (0000000e:{IO_GPU}ImpactingInteractivity)",
            DeviceError,
            "Let the display sleep",
        ),
        (
            f"{METAL}Caused GPU Timeout Error (00000002:{IO_GPU}Timeout)",
            DeviceError,
            "MLX_MAX_OPS_PER_BUFFER",
        ),
        (
            f"{METAL}Insufficient Memory (00000008:{IO_GPU}OutOfMemory).",
            DeviceError,
            "micro_batch_size: 1",
        ),
        (f"{METAL}Internal Error (0000000e:Internal Error)", DeviceError, "last checkpoint"),
        ("[metal::malloc] Resource limit (499000) exceeded.", RunError, "new process"),
        ("[malloc] Unable to allocate 98304000000 bytes.", RunError, "micro_batch_size: 1"),
        (
            "[metal::malloc] Attempting to allocate 9663676416 bytes which is greater than the "
            "maximum allowed buffer size of 8589934592 bytes.",
            RunError,
            "max_seq_length",
        ),
    ],
)
def test_errors_and_their_remedies(text: str, kind: type[RunError], hint: str) -> None:
    error = device_error(text)
    assert error is not None
    assert type(error) is kind
    assert hint in error.hint
    assert "0000" not in error.message


@pytest.mark.parametrize("text", ["", "division by zero", "There is no Stream(gpu, 0)"])
def test_other_errors_are_left_alone(text: str) -> None:
    assert device_error(text) is None
