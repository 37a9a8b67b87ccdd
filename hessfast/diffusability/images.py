"""Images to learn from and images held out: the digits of scikit-learn, or a folder of one's own."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks, _random

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
_GREY, _COLOUR = ("1", "L", "LA", "La"), ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def digits() -> tuple[Tensor, Tensor]:
    """The handwritten digits of scikit-learn, 1,437 to train on and 360 to test with: `[n, 1, 8, 8]` in [-1, 1].

    Raises:
        ImportError: without scikit-learn.

    Example:
        >>> [tuple(x.shape) for x in digits()]
        [(1437, 1, 8, 8), (360, 1, 8, 8)]
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("scikit-learn must be installed for its digits. Run pip install scikit-learn.") from None
    pixels = np.asarray(load_digits(return_X_y=True)[0])  # 0 to 16, by writer
    x = torch.as_tensor(pixels.reshape(-1, 1, 8, 8) / 8 - 1, dtype=torch.float32)
    return _parted(x, 360, 0)


def read_images(
    folder: str | Path, side: int | None = None, held_out: float = 0.2, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """All images below a folder, by their names' order, to train on and to test with: `[n, channels, side, side]`.

    Values are in [-1, 1]; one channel if all images are grey, otherwise three. Transparency is left out. Files that are
    not named like images are passed over.

    Args:
        folder: of files such as .png and .jpg, of 8 bits a channel; folders in it are read too.
        side: each image's greatest square about its centre is brought to this many pixels; None: images are square,
            and of one size, already.
        held_out: share to test with, in (0, 1); at least two images are on either side.
        seed: of who is held out.

    Raises:
        FileNotFoundError: without a folder.
        ValueError: for a folder without images, a damaged file, images that are not square or of several sizes.
        ImportError: without Pillow.

    Example:
        Ten white images, two of them held out.

        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for k in range(10):
        ...         Image.new("L", (4, 4), 255).save(f"{folder}/{k}.png")
        ...     train, held_out = read_images(folder)
        >>> train.shape, held_out.shape, float(train.min())
        (torch.Size([8, 1, 4, 4]), torch.Size([2, 1, 4, 4]), 1.0)
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("Pillow must be installed to read images. Run pip install pillow.") from None
    side = None if side is None else _checks.integer("side", side, 1)
    share, seed = _checks.number("held_out", held_out), _checks.seed(seed)
    if not 0 < share < 1:
        raise ValueError(f"held_out must be in (0, 1), got {held_out}.")
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"folder must be a folder of images, got {str(folder)!r}.")
    names = sorted(
        path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if len(names) < 4:
        kinds = ", ".join(SUFFIXES)
        raise ValueError(f"folder must hold 4 images or more ({kinds}), got {len(names)} in {str(folder)!r}.")
    pictures: list[np.ndarray] = []
    for name in names:
        pixels = _pixels(Image, root / name, side)
        rows, columns = pixels.shape[:2]
        if rows != columns:
            raise ValueError(
                f"images must be square, got {columns} x {rows} pixels in {str(name)!r}. "
                f"Pass side={min(rows, columns)}, or less, to crop and resize."
            )
        if pictures and len(pictures[0]) != rows:
            least = min(len(pictures[0]), rows)
            raise ValueError(
                f"images must be of one size, got {len(pictures[0])} pixels a side in {str(names[0])!r} and {rows} "
                f"in {str(name)!r}. Pass side={least}, or less, to crop and resize."
            )
        pictures.append(pixels)
    channels = max(pixels.shape[2] for pixels in pictures)
    whole = np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], channels)) for pixels in pictures])
    x = torch.as_tensor(whole).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()
    return _parted(x, min(max(round(share * len(x)), 2), len(x) - 2), seed)


def _pixels(Image, path: Path, side: int | None) -> np.ndarray:
    """`[rows, columns, channels]` uint8, with one channel or three."""
    from PIL import ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            mode = image.mode
            image = image.convert("L" if mode in _GREY else "RGB")
    except PermissionError:
        raise
    except (
        OSError,
        SyntaxError,
        EOFError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # Pillow's ways to say so
        raise ValueError(f"folder must hold whole images, got {path.name!r}, damaged or of another kind. "
                         "Remove it.") from error  # fmt: skip
    if mode not in _GREY + _COLOUR:
        raise ValueError(f"images must have 8 bits a channel, got mode {mode} in {path.name!r}. Convert it.")
    if side is not None and image.size != (side, side):
        image = ImageOps.fit(image, (side, side), method=Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _parted(x: Tensor, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffled; the first few to test with come second, the rest, to train on, first."""
    mixed = torch.as_tensor(np.argsort(_random.derive(seed, np.arange(len(x)))))
    return x[mixed[held_out:]], x[mixed[:held_out]]
