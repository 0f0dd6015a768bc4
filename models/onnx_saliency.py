"""Networks that find salient objects, trained by others and read from ONNX: U²-Net, IS-Net, BiRefNet and their like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FREE = (1, 3, 320, 320)
"""The input of networks that leave its size open: that of U²-Net."""
LARGE_SIDE = 1024
"""Of the inputs of IS-Net and BiRefNet."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ISNET_MEAN, ISNET_STD = (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
# What rounding may put a probability outside of [0, 1].
SLACK = 1e-3
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class SaliencyNetwork:
    """A network of one input [N, 3, H, W], whose first output is a map [1, h, w] or [1, 1, h, w].

    How it wants its input is told from the size: 1024 x 1024 is IS-Net's (RGB / 255, mean 0.5, deviation 1) or, if the
    output then leaves [0, 1], BiRefNet's (RGB / 255, ImageNet's mean and deviation); any other is U²-Net's (RGB divided
    by its highest value, ImageNet's mean and deviation). Probabilities are stretched to [0, 1] in each image, as by the
    authors of U²-Net and IS-Net. An output that leaves [0, 1] is one of logits, and passes through the logistic
    function instead. The authors resize photographs bilinearly; here they are shrunk by the mean of the pixels.

    Args:
        file: The network.
        num_threads: Of its arithmetic.

    Raises:
        ValueError: The file is damaged, or another kind of network.
    """

    def __init__(self, file: Path, num_threads: int = 1) -> None:
        # Only who has such a network waits for it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # Its errors have no class in common.
            raise ValueError(f"expected a network in ONNX, but {error}") from error
        inputs = [(each.name, each.shape, each.type) for each in self._session.get_inputs()]
        self._name, shape, kind = inputs[0] if len(inputs) == 1 else ("", (), "")
        # What is left open is no number.
        sides = [side if isinstance(side, int) else free for side, free in zip(shape, FREE, strict=False)]
        if len(shape) != 4 or sides[:2] != [1, 3] or kind not in _TYPES:
            found = ", ".join(f"{shape} of {kind}" for _, shape, kind in inputs)
            raise ValueError(f"expected a network of one input [1, 3, H, W] of floats, found {found or 'none'}")
        self._type, self._size = _TYPES[kind], (sides[2], sides[3])
        self._output = self._session.get_outputs()[0].name
        self._gives_logits = False

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the saliency of an RGB image uint8 [H, W, 3]: float32 [h, w] in [0, 1], of the network's size.

        Raises:
            ValueError: The output is no map, or not finite.
        """
        interpolation = cv2.INTER_AREA if min(image.shape[:2]) > min(self._size) else cv2.INTER_LINEAR
        small = cv2.resize(image, self._size[::-1], interpolation=interpolation).astype(np.float32)
        if self._size != (LARGE_SIDE, LARGE_SIDE):
            return self._scaled(self._run(small / max(float(small.max()), 1.0), IMAGENET_MEAN, IMAGENET_STD))
        if not self._gives_logits:
            found = self._run(small / 255, ISNET_MEAN, ISNET_STD)
            self._gives_logits = _leaves_range(found)
            if not self._gives_logits:
                return self._scaled(found)
        return self._scaled(self._run(small / 255, IMAGENET_MEAN, IMAGENET_STD))

    def _run(self, image: NDArray[np.floating], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
        pixels = ((image - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(2, 0, 1)[None]
        try:
            (found,) = self._session.run([self._output], {self._name: np.ascontiguousarray(pixels, self._type)})
        except Exception as error:  # As above.
            raise ValueError(f"the network fails: {error}") from error
        found = np.asarray(found, np.float32)
        if found.ndim not in (3, 4) or found.size == 0 or found.size != found.shape[-1] * found.shape[-2]:
            raise ValueError(f"expected an output of one map [1, 1, H, W], found {list(found.shape)}")
        if not np.isfinite(found).all():
            raise ValueError("expected an output of finite values, found others")
        return found.reshape(found.shape[-2:])

    def _scaled(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._gives_logits or _leaves_range(found):
            # The logistic function, without overflow.
            return (0.5 * (1 + np.tanh(0.5 * found))).astype(np.float32)
        low, high = found.min(), found.max()
        return ((found - low) / (high - low) if high > low else found).clip(0, 1)


def _leaves_range(found: NDArray[np.float32]) -> bool:
    return bool(found.min() < -SLACK or found.max() > 1 + SLACK)
