"""The report: a page that needs nothing else, and says what was measured."""

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from hessfast import shards
from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, feature_map, from_callable, generate, report, zoom
from hessfast.slices.adaptive import subgrid
from hessfast.slices.fit import fit
from hessfast.slices.paths import PATHS, compare

ANCHORS = [[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]]
PLAN = SlicePlan(ANCHORS, Grid((0, 0), (1, 1), (20, 20)), normalise=False)
GENERATOR = from_callable(
    lambda z: (lambda a: torch.stack([a.cos(), a.sin()], dim=1)[:, None, None])(
        1.5 * torch.sigmoid(40 * (z[:, 0, 0, 0] - 0.5)) + 0.1 * z[:, 0, 0, 1]
    ),
    "turn",
)
SAME = feature_map(lambda images: images.flatten(1), "same")


pytestmark = pytest.mark.usefixtures("one_thread")


class Page(HTMLParser):
    """Pictures and links of a page, and whether its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.links, self.open, self.words = {}, [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "img":
            self.pictures[values["alt"]] = values["src"]
        self.links += [values[key] for key in ("href", "src") if key in values and not values[key].startswith("data:")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    store = generate(PLAN, GENERATOR, folder / "slice", SAME, keep=("latents", "features", "images"))
    classes = (np.asarray(store["features"][:])[:, 1] > 0.7).astype(int)
    geometry = fit(folder / "slice", folder / "geometry", points_per_axis=10, num_steps=15, classify=lambda _: classes)
    compared = compare(
        PLAN, GENERATOR, folder / "curves", SAME, geometry, folder / "slice", classes=classes, num_pairs=4
    )
    zoom(PLAN, GENERATOR, folder / "zoom-float32", SAME, points_per_axis=5, max_levels=2, keep=["images"])
    maps = report.measure_maps(PLAN, GENERATOR, folder / "maps", SAME, 5)
    path = report.write_report(
        folder, PLAN, store, geometry, maps=maps, compared=compared, curves=folder / "curves",
        zoomed={"float32": folder / "zoom-float32"}, classes=classes, provenance={"note": "<tag> & more"},
    )  # fmt: skip
    return path, compared, geometry, store, maps


def test_page_is_whole_and_self_contained(made):
    page = Page(made[0].read_text())
    assert page.open == []
    assert page.links == []
    assert "<script" not in made[0].read_text()
    assert "<tag> & more" in "".join(page.words)


def test_pictures_are_those_of_the_files(made):
    page = Page(made[0].read_text())
    assert set(page.pictures) == {
        "slice", "boundaries", "geometry", "maps", "adaptive", "geodesics", "images_along", "zoom_float32",
        "zoom_windows_float32",
    }  # fmt: skip
    for name, source in page.pictures.items():
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert content.startswith(b"\x89PNG")
        assert content == (made[0].parent / "figures" / f"{name}.png").read_bytes()


def test_numbers_of_the_tables_are_those_measured(made):
    path, compared = made[:2]
    words = "".join(Page(path.read_text()).words)
    for name in PATHS:
        x = compared["table"][name]["pixel_length"]
        assert f"{x['mean']:.3f} ± {x['sem']:.3f}" in words
    kept = json.loads((path.parent / "report.json").read_text())
    assert kept["curves"] == json.loads(json.dumps(compared))
    assert kept["plan_hash"] == PLAN.hash


def test_verdict_says_won_only_where_it_is():
    def entry(mean, p, shorter):
        return {"mean": mean, "sem": 0.01, "p": p, "shorter": shorter}

    def of(test):
        other = {"feature_length": test, "curvature": test}
        size = {"feature_length": {"mean": 2.0}, "curvature": {"mean": 2.0}}
        names = ("exponential", "pullback of pixels")
        why = {"chord": {"mean": 1.5}, "to_gain": 0.1, "gained": 0.02, "rank_correlation": 0.6}
        return report.verdict({
            "num_pairs": 9, "tests": dict.fromkeys(names, other), "table": dict.fromkeys(names, size), "why": why
        })  # fmt: skip

    won = of(entry(-0.1, 1e-4, 0.8))
    assert won.count(": beaten") == 4
    assert "Why not" not in won
    assert "over 9 pairs that cross a boundary" in won
    assert re.search(r"feature length against linear paths: -5.0% ± 0.5%, less in 80% of pairs, p = 0.0001", won)
    for lost in (entry(-0.1, 0.2, 0.8), entry(0.1, 1e-4, 0.8), entry(-0.1, 1e-4, 0.4)):
        text = of(lost)
        assert text.count("not beaten") == 4
        assert "75% of a linear path's feature length is the distance between its ends" in text
        assert "save 10.0%, and the learned geodesics 2.0%" in text


def test_an_even_subgrid_of_as_many_images_is_between_those_that_there_are(monkeypatch):
    grid, told = Grid((0, 0), (1, 1), (33, 33)), []
    features = np.tanh(20 * (grid.points.reshape(-1, 2) - 0.4))
    monkeypatch.setattr(report.draw, "parts", lambda *_: None)
    page = SimpleNamespace(section=lambda title, text: told.append(text), picture=lambda *_: None)
    report._parts(page, grid, features)
    num, found = re.match(r"With (\d+) of the 1,089 images.* subgrid to ([\d.]+)\.$", told[0]).groups()
    (low,), (most,) = (subgrid(grid, features, stride).feature_errors(features)[1] for stride in (2, 3))
    share = np.log(int(num) / 12**2) / np.log(17**2 / 12**2)  # of every third point and every second
    assert float(found) == pytest.approx(most ** (1 - share) * low**share, rel=0.02)


def test_pairs_that_stray_farthest_are_shown_by_the_names_of_their_paths(made, monkeypatch):
    folder, shown = made[0].parent / "curves", {}
    monkeypatch.setattr(report.draw, "paths", lambda *given: shown.update(paths=given[2], pair=given[3]))
    monkeypatch.setattr(report.draw, "strips", lambda *given: shown.update(images=given[0], names=given[1]))
    page = SimpleNamespace(section=lambda *_: None, add=lambda *_: None, picture=lambda *_: None)
    report._curves(page, made[2], PLAN.points, made[1], folder)
    strays = np.linalg.norm(shown["paths"]["levi-civita"] - shown["paths"]["exponential"], axis=2).max(axis=1)
    assert sorted(shown["pair"]) == [0, 1, 2, 3] and (np.diff(strays[shown["pair"]]) <= 0).all() and np.ptp(strays) > 0
    images = np.asarray(shards.open(folder / "images")["images"][:]).reshape(len(PATHS), 4, *shown["images"].shape[2:])
    assert shown["names"] == [name for name in PATHS if "released kernel" not in name]
    for name, seen in zip(shown["names"], shown["images"], strict=True):
        np.testing.assert_array_equal(seen, images[list(PATHS).index(name)])


def test_maps_are_those_of_the_slice(made):
    maps = made[4]
    u = maps["grid"].points.reshape(-1, 2)
    s = 1 / (1 + np.exp(-40 * (u[:, 0] - 0.5)))
    np.testing.assert_allclose(
        maps["lipschitz"]["singular_values"][:, 0], np.hypot(60 * s * (1 - s), 0.1), rtol=1e-3, atol=1e-5
    )
    assert (maps["noise"]["floor"] < 1e-5).all()


def test_maps_of_another_generator_or_of_other_features_are_refused(made):
    message = r"out must be a new folder or that of the same run, got .* with "
    with pytest.raises(ValueError, match=message + "generator.name turn, not return"):
        report.measure_maps(PLAN, from_callable(torch.cos, "return"), made[0].parent / "maps", SAME, 5)
    with pytest.raises(ValueError, match=message + "features.name same, not other"):
        report.measure_maps(
            PLAN, GENERATOR, made[0].parent / "maps", feature_map(lambda images: images.flatten(1), "other"), 5
        )
    with pytest.raises(ValueError, match=message + "plan"):
        report.measure_maps(PLAN, GENERATOR, made[0].parent / "maps", SAME, 6)


def test_what_the_ridges_have_found_is_told(made):
    def words(found, real):
        agreement = {"ours": {"found": found, "real": real, "by_chance": 0.25}}
        return report._boundary_text(dataclasses.replace(made[2], agreement=agreement))

    text = words(0.6, 0.9)
    assert "90% of the ridges lie within 1.5 cells of a change of class, where 25% would by chance" in text
    assert "60% of the changes have a ridge" in text
    assert "no ridge was found" in words(0.0, None)
    assert report._boundary_text(dataclasses.replace(made[2], agreement=None)) == words(None, None)


def test_the_box_dimension_of_the_boundaries_is_told(made):
    """Of a straight line it is 1; four points an axis have too few sizes of boxes for any."""
    kept = json.loads((made[0].parent / "report.json").read_text())["box_dimension"]
    words = "".join(Page(made[0].read_text()).words)
    assert kept["dimension"] == pytest.approx(1, abs=2 * kept["sem"] + 1e-9)
    assert f"have box dimension {kept['dimension']:.2f} ± {kept['sem']:.2f} over boxes of 1 to" in words
    line = report._dimension((np.arange(64) > 20)[None].repeat(64, axis=0))
    assert line == {"dimension": pytest.approx(1), "sem": pytest.approx(0, abs=1e-9), "range": [1, 16]}
    few = report._dimension(np.eye(4, dtype=int))
    assert "marks must scale over three box sizes" in few["refused"]
    assert "No box dimension" in report._dimension_text(few) and report._dimension_text(None) == ""


def test_a_scale_at_its_limit_is_told(made):
    for at_the_end in (True, False):
        held_out = {"kernel": "gaussian", "scale": 64.0, "nats": 1.5, "at_the_end": at_the_end}
        text = report._fit_text(dataclasses.replace(made[2], held_out=held_out))
        assert "chose gaussian at scale 64 (1.50 nats above the prior)" in text
        assert ("the largest at which every sample still has a neighbour" in text) is at_the_end


def test_maps_are_read_again(made, monkeypatch):
    monkeypatch.setattr(report, "lipschitz", None)  # must not be needed
    monkeypatch.setattr(report, "noise_floor", None)
    again = report.measure_maps(PLAN, GENERATOR, made[0].parent / "maps", SAME, 5)
    np.testing.assert_array_equal(again["noise"]["jump"], made[4]["noise"]["jump"])


def test_report_refuses(made, tmp_path, monkeypatch):
    _, _, geometry, store, _ = made
    with pytest.raises(ValueError, match="plan must have the points of a Grid of two dimensions for a report"):
        report.write_report(tmp_path, PLAN.at([[0.1, 0.2]]), store, geometry)
    bare = generate(PLAN, GENERATOR, tmp_path / "bare", SAME)
    with pytest.raises(ValueError, match="store must hold images for a report, got none"):
        report.write_report(tmp_path, PLAN, bare, geometry)
    monkeypatch.setattr(report, "available", lambda: False)
    with pytest.raises(ImportError, match="matplotlib must be installed for reports"):
        report.write_report(tmp_path, PLAN, shards.open(made[0].parent / "slice"), geometry)
