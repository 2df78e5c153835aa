"""Heat over pictures."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.explain import overlay
from minicnn.explain.pictures import colours

from .nets import pictures

PICTURE = pictures(1)[0]
LOW, HIGH = (13, 8, 135), (240, 249, 33)


def test_overlay_shows_the_picture_where_there_is_no_heat():
    heat = np.zeros(PICTURE.shape[:2], "float32")
    np.testing.assert_array_equal(overlay(PICTURE, heat), PICTURE)
    heat[3, 4], heat[5, 6], heat[7, 8] = 2.0, -9.0, 1.0
    y = overlay(PICTURE, heat, opacity=0.5)
    assert y.dtype == np.uint8 and y.shape == PICTURE.shape
    changed = (y != PICTURE).any(axis=-1)
    assert changed[3, 4] and changed[7, 8] and changed.sum() == 2
    np.testing.assert_allclose(y[3, 4], 0.5 * PICTURE[3, 4] + 0.5 * np.array(HIGH), atol=0.5)
    half = colours(np.array(0.5)).astype(float)
    np.testing.assert_allclose(y[7, 8], 0.75 * PICTURE[7, 8] + 0.25 * half, atol=1)


def test_overlay_does_not_depend_on_the_scale_of_heat():
    heat = np.random.default_rng(0).random(PICTURE.shape[:2])
    expected = overlay(PICTURE, heat)
    for scale in (1e-6, 1e6):
        np.testing.assert_array_equal(overlay(PICTURE, heat * scale), expected)


def test_overlay_with_opacity_one_is_the_colour_where_it_is_hottest():
    heat = np.ones(PICTURE.shape[:2], bool)
    assert (overlay(PICTURE, heat, opacity=1) == HIGH).all()
    np.testing.assert_array_equal(overlay(PICTURE, heat, opacity=0), PICTURE)


def test_overlay_takes_grey_pictures_and_changes_none():
    grey, heat = PICTURE[..., :1].copy(), np.random.default_rng(0).random(PICTURE.shape[:2])
    before = grey.copy(), heat.copy()
    np.testing.assert_array_equal(overlay(grey, heat), overlay(np.repeat(grey, 3, axis=2), heat))
    np.testing.assert_array_equal(grey, before[0])
    np.testing.assert_array_equal(heat, before[1])


def test_colours_grow_lighter_from_end_to_end():
    """Without red, without green, and without any colour they can be told apart."""
    found = colours(np.linspace(0, 1, 101)).astype(float)
    assert tuple(found[0]) == LOW and tuple(found[-1]) == HIGH
    assert (np.diff(found @ (0.2126, 0.7152, 0.0722)) > -0.5).all()


def test_colours_are_matplotlibs():
    plasma = pytest.importorskip("matplotlib").colormaps["plasma"]
    steps = np.linspace(0, 1, 256)
    assert abs(colours(steps) - 255 * plasma(steps)[:, :3]).max() < 8


@pytest.mark.parametrize(
    ("picture", "heat", "options", "match"),
    [
        (PICTURE / 255, np.ones((12, 10)), {}, r"picture \(12, 10, 3\) float64: expected"),
        (PICTURE[..., 0], np.ones((12, 10)), {}, r"picture \(12, 10\) uint8: expected"),
        (PICTURE[None], np.ones((12, 10)), {}, "picture"),
        (PICTURE, np.ones((10, 12)), {}, r"heat \(10, 12\) float64: expected one number"),
        (PICTURE, np.ones((1, 12, 10)), {}, "heat"),
        (PICTURE, np.full((12, 10), "a"), {}, "heat"),
        (PICTURE, np.full((12, 10), np.nan), {}, "heat: expected finite numbers"),
        (PICTURE, np.ones((12, 10)), {"opacity": 1.5}, "opacity 1.5: expected 0 to 1"),
        (PICTURE, np.ones((12, 10)), {"opacity": -1}, "opacity -1"),
    ],
)
def test_overlay_refuses_wrong_arguments(picture, heat, options, match):
    with pytest.raises(ValueError, match=match):
        overlay(picture, heat, **options)
