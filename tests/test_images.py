"""Folders of images: what is read of them, and what is refused by name."""

import sys

import numpy as np
import pytest
import torch

from hessfast.diffusability import read_images

Image = pytest.importorskip("PIL.Image")


def write(folder, name, pixels):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


@pytest.fixture
def grey(tmp_path):
    """Ten images of 8 x 8, each of one level, 0 to 225, one of them in a folder of its own."""
    for k in range(10):
        write(tmp_path, f"{k}.png" if k else "a/0.png", np.full((8, 8), 25 * k))
    (tmp_path / "labels.csv").write_text("0,1\n")
    return tmp_path


def levels(x):
    return sorted(round(float((image.mean() + 1) * 127.5)) for image in x)


def test_every_image_is_read_once(grey):
    train, held_out = read_images(grey)
    assert train.shape == (8, 1, 8, 8) and held_out.shape == (2, 1, 8, 8) and train.dtype == torch.float32
    assert sorted(levels(train) + levels(held_out)) == [25 * k for k in range(10)]
    assert torch.cat([train, held_out]).min() == -1
    again, other = read_images(grey), read_images(grey, seed=1)
    assert torch.equal(again[0], train) and torch.equal(again[1], held_out)
    assert levels(other[1]) != levels(held_out)
    assert len(read_images(grey, held_out=0.5)[1]) == 5
    assert len(read_images(grey, held_out=1e-3)[1]) == 2  # of which one needs two


def test_colours_and_their_order(tmp_path):
    """One image in colour makes all of them three channels: red, green, blue."""
    for k in range(4):
        write(tmp_path, f"{k}.png", np.full((4, 4), 10 * k))
    write(tmp_path, "colour.png", np.broadcast_to([255, 0, 51], (4, 4, 3)))
    x = torch.cat(read_images(tmp_path))
    assert x.shape == (5, 3, 4, 4)
    (colour,) = (image for image in x if image[0].max() == 1)
    torch.testing.assert_close(colour[:, 0, 0], torch.tensor([1.0, -1.0, -0.6]))


def test_photographs_are_upright(tmp_path):
    """Stored on their side: by tag 0x0112 the first row is the right column."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((4, 4), np.uint8)
    stored[0] = 255
    for k in range(4):
        Image.fromarray(stored).save(tmp_path / f"{k}.png", exif=exif)
    x = torch.cat(read_images(tmp_path))
    assert (x[..., -1] == 1).all() and (x[..., :-1] == -1).all()


def test_a_side_crops_about_the_centre(tmp_path):
    """Of 12 x 6 the middle half is white; mixed sizes are brought to one."""
    pixels = np.zeros((6, 12))
    pixels[:, 3:9] = 255
    for k in range(4):
        write(tmp_path, f"{k}.png", pixels)
    write(tmp_path, "large.png", np.full((20, 30), 255))
    x = torch.cat(read_images(tmp_path, side=6))
    assert x.shape == (5, 1, 6, 6) and x.min() == 1
    assert torch.cat(read_images(tmp_path, side=3)).shape == (5, 1, 3, 3)


def test_refusals_name_the_file_and_the_remedy(grey):
    with pytest.raises(FileNotFoundError, match=r"folder must be a folder of images, got .*none"):
        read_images(grey / "none")
    with pytest.raises(ValueError, match=r"folder must hold 4 images or more .* got 1 in"):
        read_images(grey / "a")
    with pytest.raises(ValueError, match=r"held_out must be in \(0, 1\), got 1"):
        read_images(grey, held_out=1)
    with pytest.raises(ValueError, match="side must be >= 1"):
        read_images(grey, side=0)
    write(grey, "b.png", np.zeros((6, 6)))
    with pytest.raises(ValueError, match=r"images must be of one size, got 8 .* and 6 in 'b\.png'\. Pass side=6"):
        read_images(grey)
    write(grey, "b.png", np.zeros((9, 8)))
    with pytest.raises(ValueError, match=r"images must be square, got 8 x 9 pixels in 'b\.png'\. Pass side=8"):
        read_images(grey)


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_damaged_files(grey, content):
    whole = (grey / "1.png").read_bytes()
    (grey / "5.png").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    for side in (None, 8):
        with pytest.raises(ValueError, match=r"folder must hold whole images, got '5\.png', damaged .* Remove it\."):
            read_images(grey, side)


def test_sixteen_bits_are_not_cut_to_eight(grey):
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(grey / "deep.png")
    with pytest.raises(ValueError, match=r"images must have 8 bits a channel, got mode I.* in 'deep\.png'"):
        read_images(grey)


def test_what_it_needs(grey, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        read_images(grey)
