"""Where torch computes: a device by its name, or one line that says what there is instead."""

import torch

from facerecon.messages import OneLine


class DeviceError(OneLine, ValueError):
    """A device cannot be used here; the message says why, and which ones can."""


def find_device(name: str | torch.device) -> torch.device:
    """The device of this name.

    Args:
        name: such as "cpu", "cuda" or "cuda:1".

    Raises:
        DeviceError: unknown, or torch cannot compute there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device).add(1).cpu()  # "meta" has no values to bring back
    except Exception as error:  # of torch: other types for every kind of device and of trouble
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise DeviceError(
            f"device {str(name)!r}: PyTorch {torch.__version__}, built {built}, cannot compute"
            f" there; there is: {', '.join(devices())}. The README's section Install says how to"
            " get a PyTorch for GPUs"
        ) from error
    return device


def devices() -> list[str]:
    """Names of all devices that torch can compute on here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    count = torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(count))]
