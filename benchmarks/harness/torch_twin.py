"""The network of a convolutional level in PyTorch, with the same weights.

Channels-last, fused Adam and eager mode are the fastest on a CPU without PyTorch's compiler.
"""

from collections.abc import Callable

import keras
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.harness.clocks import Curve
from stacked_autoencoder import ConvLevel
from stacked_autoencoder.utils.images import scaled

Tensor = torch.Tensor


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.second(functional.silu(self.first(functional.silu(hidden))))


class Half(nn.Module):
    """The encoder or the decoder of a level: a linear path, and a residual path given as a list of modules."""

    def __init__(self, linear: nn.Module, residual: list[nn.Module]) -> None:
        super().__init__()
        self.linear = linear
        self.residual = nn.Sequential(*residual)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs) + self.residual(inputs)


def twin(level: ConvLevel, seed: int | None = None) -> nn.Sequential:
    """Encoder and decoder of a built level with image-shaped encodings and `activation="silu"`.

    Args:
        level: a level whose weights are copied.
        seed: seed of PyTorch's random weights, which are used instead.
    """
    if seed is not None:
        torch.manual_seed(seed)
    channels, widths, n_out, patch = level.input_shape[-1], level.widths, level.n_out, level.patch
    down: list[nn.Module] = [nn.Conv2d(channels, widths[0], patch, stride=patch)]
    up: list[nn.Module] = [nn.Conv2d(n_out, widths[-1], 3, padding=1)]
    for stage, width in enumerate(widths):
        down += [nn.Conv2d(widths[stage - 1], width, 2, stride=2)] if stage else []
        down += [Block(width) for _ in range(level.depth)]
    for stage in reversed(range(len(widths))):
        up += [Block(widths[stage]) for _ in range(level.depth)]
        up += [nn.ConvTranspose2d(widths[stage], widths[stage - 1], 2, stride=2)] if stage else []
    down += [nn.Tanh(), nn.Conv2d(widths[-1], n_out, 1)]
    up += [nn.Tanh(), nn.ConvTranspose2d(widths[0], channels, patch, stride=patch)]
    halves = nn.Sequential(
        Half(nn.Conv2d(channels, n_out, level.factor, stride=level.factor), down),
        Half(nn.ConvTranspose2d(n_out, channels, level.factor, stride=level.factor), up),
    )
    if seed is None:
        for half, model in zip(halves, (level.encoder, level.decoder), strict=True):
            _copy(model, half)
    return halves.to(memory_format=torch.channels_last)


def _copy(model: keras.Model, half: Half) -> None:
    """Copies the weights of a Keras model; both list the layers of a path from input to output.

    Kernels of convolutions are `(H, W, in, out)` in Keras and `(out, in, H, W)` in PyTorch; in transposed
    convolutions, `in` and `out` are swapped in both.
    """
    kernels = [layer for layer in model.layers if layer.weights]
    linear = model.get_layer("linear")
    theirs = [module for module in half.residual.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    ours = [layer for layer in kernels if layer is not linear]
    with torch.no_grad():
        for layer, module in zip([linear, *ours], [half.linear, *theirs], strict=True):
            kernel, bias = layer.get_weights()
            module.weight.copy_(torch.from_numpy(np.transpose(kernel, (3, 2, 0, 1)).copy()))
            module.bias.copy_(torch.from_numpy(bias))


def as_torch(images: np.ndarray) -> Tensor:
    """`(N, H, W, C)` → `(N, C, H, W)` without a copy, in the memory format channels-last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def encoding(net: nn.Sequential, images: np.ndarray) -> Callable[[], Tensor]:
    """Returns a function that encodes a batch."""

    def encode() -> Tensor:
        with torch.inference_mode():
            return net[0](as_torch(images))

    return encode


def training(net: nn.Sequential, learning_rate: float = 1e-3) -> Callable[[np.ndarray], Tensor]:
    """Returns a function that takes a training step on a batch."""
    optimizer = torch.optim.Adam(net.parameters(), learning_rate, fused=True)

    def step(images: np.ndarray) -> Tensor:
        inputs = as_torch(images)
        loss = functional.mse_loss(net(inputs), inputs)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def train(
    net: nn.Sequential,
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    curve: Curve,
    validate_every: int,
    batch_size: int,
) -> None:
    """Trains on uint8 images for `seconds`; adds the loss on `valid` to `curve` every `validate_every` steps."""
    rng, step, steps = np.random.default_rng(0), training(net), 0
    while True:
        for chosen in np.array_split(rng.permutation(len(images)), max(len(images) // batch_size, 1)):
            step(scaled(images[chosen]).numpy())
            steps += 1
            is_over = curve.seconds > seconds
            if steps % validate_every == 0 or is_over:
                curve.add(loss_of(net, scaled(valid).numpy()))
            if is_over:
                return


def loss_of(net: nn.Sequential, images: np.ndarray, batch_size: int = 256) -> float:
    """Mean squared error of all images."""
    parts = [as_torch(images[index : index + batch_size]) for index in range(0, len(images), batch_size)]
    with torch.inference_mode():
        return sum(float(functional.mse_loss(net(part), part)) * len(part) for part in parts) / len(images)
