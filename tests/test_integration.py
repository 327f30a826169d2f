"""Integration of stills: intensities with the right errors, and nothing in them of what is masked or hidden."""

from dataclasses import replace

import numpy as np
import pytest

from bounds import bound
from ed2d import flags
from ed2d.gaussian import covariance_from_shape, shape_from_covariance
from ed2d.integration import integrate_image
from ed2d.lattice import Lattice
from ed2d.pulls import pulls
from ed2d.simulate import Simulation
from integrated import CLEAR, GIVEN, PLAIN, blurred, measured, pulls_of, together
from stills import assert_pulls, image_of, in_order_of, parameters

COUNTED = {"gain": 1.0, "read_noise": 0.0}
KINDS = {  # changes of PLAIN; those of its parameters
    "faint": ({"peak_volume": 300.0, "sigma_low": 1.6, "sigma_high": 1.6, "elongation": 1.0}, {}),
    "plain": ({}, {}),
    "strong": ({"peak_volume": 30000.0, "background": 100.0}, {}),
    "counted": (
        {"peak_volume": 1500.0, "background": 8.0, "gain": 1.0, "read_noise": 0.0},
        {"gain": 1.0, "read_noise": 0.0},
    ),
    "camera": ({"gain": 20.0, "read_noise": 30.0, "background_diffuse": 300.0}, {"gain": 20.0, "read_noise": 30.0}),
    "estimated": ({"background_diffuse": 300.0, "offset": 100.0}, {"gain": 0.0, "offset": 100.0}),
}
SEEDS = (0, 1)
INTENSITIES = ("I", "I0", "I1", "IPR")
ERROR_OF_PROFILE = 0.05  # standard deviations: pulls share the errors of the learned shape, and of an estimated gain
SATURATED_BIAS = 0.15  # standard deviations; all have the errors of the one learned shape
BOUND_OF_WEAK = 0.75  # of the bound of nine parameters, the rms error of weak profile fits: five are known
WEAK = 3.0  # I/sigma by this bound


@pytest.mark.parametrize("kind", KINDS)
def test_pulls_of_the_intensities(kind):
    """Box sums and profile fits, over doses, detectors and seeds, of absent, weak and strong spots: mean 0, width 1."""
    changes, given = KINDS[kind]
    table, truth = together(replace(PLAIN, **changes), SEEDS, replace(GIVEN, **given))
    strong = truth["vol_counts"] > CLEAR * np.sqrt(table["VARIPR"])
    for column in INTENSITIES:
        found = pulls_of(table, truth, column)
        for chosen in (strong, ~strong, truth["vol_counts"] == 0):
            if chosen.sum() > 50:
                assert_pulls(found[chosen], bias=ERROR_OF_PROFILE, extra_width=ERROR_OF_PROFILE)


def test_pulls_of_noise_that_a_point_spread_has_made_common():
    """Electrons that spread over 0.5 px: the noise of pixels is correlated, the errors of the intensities are right."""
    stills = [blurred(0.5, seed) for seed in (0, 1, 2)]
    assert min(still.extraction.noise.correlation for still in stills) > 2
    table, truth = (np.concatenate(part) for part in zip(*(still.spots() for still in stills), strict=True))
    for column in INTENSITIES:
        assert_pulls(pulls_of(table, truth, column), bias=ERROR_OF_PROFILE, extra_width=ERROR_OF_PROFILE)


def test_box_sums_where_few_spots_teach_the_shape():
    """With hardly a strong spot, and widths that grow unseen, box sums are right where profile fits cannot be."""
    table, truth = together(replace(PLAIN, peak_volume=300.0), (0, 1, 2))
    assert measured(replace(PLAIN, peak_volume=300.0)).extraction.profile.spots < 40
    for column in ("I", "I0", "I1"):
        assert_pulls(pulls_of(table, truth, column))


def test_the_columns_of_the_fits_are_those_of_extract():
    """What the extract table says of a point stands in its row: fits, positions, and all its flags."""
    result = measured()
    table = result.integration.table
    before, known = in_order_of(
        np.column_stack([table["H"], table["K"]]), result.extracted[["H", "K"]].astype([("h", int), ("k", int)])
    )
    assert known.all()
    extracted = result.extracted[result.integration.measured.kept]
    np.testing.assert_array_equal(np.column_stack([extracted["H"], extracted["K"]]), before.tolist())
    for column in ("XDET", "YDET", "XOBS", "A", "BX", "W", "PX", "RCHI2"):
        np.testing.assert_array_equal(table[column], extracted[column])
    np.testing.assert_array_equal(table["GVOL"], extracted["I"])
    np.testing.assert_array_equal(table["VARGVOL"], extracted["VARI"])
    assert np.all(table["FLAG"] & extracted["FLAG"] == extracted["FLAG"])
    assert not np.any(table["FLAG"] & flags.OVERLAP)


def test_the_chosen_step_is_that_of_the_columns():
    """I, SIGI are those of NGROW, which is the step of the whole image."""
    integration = measured().integration
    table, step = integration.table, integration.step
    assert set(table["NGROW"]) == {step}
    np.testing.assert_array_equal(table["I"], table[f"I{step}"])
    np.testing.assert_array_equal(table["VARI"], table[f"VARI{step}"])
    assert 0 < integration.outside < 0.01  # of Gaussians of 1.2 to 2.6 px in a box of 13 px
    ratio, sigma = integration.profile_over_box
    assert abs(ratio - 1) < 4 * sigma < 0.05


def test_weak_profile_fits_against_the_bound():
    """Profile fits of weak spots, knowing place and shape, are far better than any fit of nine parameters can be."""
    table, truth = together(PLAIN, (0, 1, 2))
    centre = np.column_stack([truth["x"], truth["y"]])
    centre -= np.floor(centre + 0.5)
    shape = [truth["s1"], truth["s2"], np.degrees(truth["theta"])]
    background = [truth["bg_counts"], truth["bgdx"], truth["bgdy"]]
    spots = np.column_stack([truth["vol_counts"], centre, *shape, *background])
    present = spots[:, 0] > 0
    _, sigma = bound(spots[present], measured().extraction.noise)
    error = (table["IPR"][present] - spots[present, 0]) / sigma
    weak = spots[present, 0] < WEAK * sigma
    assert weak.sum() > 100 and np.sqrt(np.mean(error[weak] ** 2)) < BOUND_OF_WEAK


SPACING = 8.0
DENSE = Simulation(
    shape=(220, 280),
    lattice=Lattice((141.3, 107.8), (SPACING, 0.6), (-0.7, SPACING + 0.1)),
    gain=5.0,
    read_noise=3.0,
    peak_volume=5000.0,
    sigma_low=1.2,
    sigma_high=1.2,
    elongation=1.0,
    background_diffuse=0.0,
    beamstop=False,
    zingers=0,
)


@pytest.mark.parametrize("box_size", [3, 6])
def test_pulls_of_a_dense_lattice(box_size):
    """Spots of 1.2 px, 8 px apart: all are told apart, and say so where their neighbours lie in the box."""
    table, truth = together(DENSE, (0, 1, 2), replace(GIVEN, box_size=box_size))
    whole = truth["in_box"] == 1
    strong = truth["vol_counts"] > CLEAR * np.sqrt(table["VARIPR"])
    assert box_size + GIVEN.box_grow_amount + GIVEN.background_rim_size < SPACING or np.all(
        table["FLAG"][whole] & flags.OVERLAP
    )
    for column in INTENSITIES:
        found = pulls_of(table, truth, column)
        for chosen in (strong, ~strong):
            assert_pulls(found[whole & chosen], bias=ERROR_OF_PROFILE, extra_width=ERROR_OF_PROFILE)
        error = table[column] - truth["vol_counts"]
        assert np.abs(error[whole & strong].sum()) < 0.005 * truth["vol_counts"][whole & strong].sum()


@pytest.mark.parametrize("level", [2000, 5000])
def test_saturated_spots(level):
    """Spots with saturated cores come from their wings, say so, and have the right errors, as all others have."""
    simulation = replace(PLAIN, peak_volume=30000.0, saturation=level, zingers=0)
    table, truth = together(simulation, (0, 1, 2, 3))
    full = table["FLAG"] & flags.SATURATED != 0
    np.testing.assert_array_equal(full[truth["in_box"] == 1], saturated_near(simulation, (0, 1, 2, 3)))
    assert truth["vol_counts"][full].mean() > 3 * truth["vol_counts"][~full].mean()
    for column in INTENSITIES:
        found = pulls_of(table, truth, column)
        assert_pulls(found[full], bias=SATURATED_BIAS, extra_width=ERROR_OF_PROFILE)
        assert_pulls(found[~full], bias=ERROR_OF_PROFILE, extra_width=ERROR_OF_PROFILE)


def saturated_near(simulation, seeds):
    """Whether the boxes of whole spots have saturated pixels."""
    found = []
    for seed in seeds:
        result = measured(simulation, seed)
        table, truth = result.spots()
        table, reach = table[truth["in_box"] == 1], GIVEN.half
        places = np.floor(np.column_stack([table["YDET"], table["XDET"]]) + 0.5).astype(int)
        found += [result.image.saturated[y - reach : y + reach + 1, x - reach : x + reach + 1].any() for y, x in places]
    return found


@pytest.mark.parametrize(("spacing", "box_size"), [(7.5, 3), (8.5, 4), (9.0, 5), (10.0, 6), (12.0, 6)])
def test_no_spacing_loses_points(spacing, box_size):
    """Neighbours in the box, beside it and round it: no whole box is rejected, and all pulls are right."""
    lattice = Lattice((171.3, 157.8), (spacing, 0.9), (-1.1, 1.02 * spacing))
    simulation = replace(DENSE, lattice=lattice, shape=(310, 350))
    result = measured(simulation, given=replace(GIVEN, box_size=box_size))
    assert not any(result.integration.measured.rejected[reason].any() for reason in ("NoBackground", "Saturated"))
    table, truth = result.spots()
    for column in INTENSITIES:
        whole = truth["in_box"] == 1
        assert_pulls(pulls_of(table, truth, column)[whole], bias=ERROR_OF_PROFILE, extra_width=ERROR_OF_PROFILE)


def test_masked_and_saturated_pixels_have_no_influence():
    """Anything may stand on ignored and saturated pixels: table, controls and pictures are the same to the last bit."""
    result = measured(replace(PLAIN, peak_volume=30000.0, saturation=5000, zingers=0))
    image, first = result.image, result.integration
    assert image.saturated.sum() > 200 and image.ignored.sum() > 1000
    for value, full in ((np.nan, 1e9), (1e12, -1e9), (-np.inf, 0.0)):
        data = np.where(image.saturated, full, np.where(image.ignored, value, image.data))
        spoilt = image_of(data, ignored=image.ignored, saturated=image.saturated)
        other = integrate_image(spoilt, result.extracted, *result.made, GIVEN)
        assert other.table.tobytes() == first.table.tobytes()
        assert (other.null_control, other.backgrounds) == (first.null_control, first.backgrounds)
        for name in ("raw", "flat", "residual"):
            np.testing.assert_array_equal(getattr(other.measured, name), getattr(first.measured, name))


def transposed(result):
    """Integration of the transposed still, from the transposed lattice, profile and table."""
    lattice, noise, profile = result.made
    turned = replace(lattice, origin=lattice.origin[::-1], a=lattice.a[::-1], b=lattice.b[::-1], spiral=-lattice.spiral)
    table = result.extracted.copy()
    for one, other in (("XDET", "YDET"), ("XOBS", "YOBS"), ("VARXOBS", "VARYOBS"), ("PX", "PY")):
        table[one], table[other] = result.extracted[other], result.extracted[one]
    image = image_of(result.image.data.T, ignored=result.image.ignored.T, saturated=result.image.saturated.T)
    return integrate_image(image, table, turned, noise, Turned(profile), GIVEN)


class Turned:
    """A profile with x and y exchanged."""

    def __init__(self, profile):
        self.profile, self.straying = profile, profile.straying

    def uncertainty_at(self, positions):
        """Relative errors (n,) of the widths."""
        return self.profile.uncertainty_at(np.asarray(positions)[:, ::-1])

    def shape_at(self, positions):
        """Shapes (n, 3) whose covariances have their axes exchanged."""
        sxx, sxy, syy = covariance_from_shape(self.profile.shape_at(np.asarray(positions)[:, ::-1]))
        return shape_from_covariance(syy, sxy, sxx)


def test_no_image_but_its_mirror():
    """Rows and columns exchanged, of a non-square image: every intensity and error stays the same."""
    result = measured()
    other = transposed(result)
    for column in ("I", "VARI", "IPR", "VARIPR", "BG0", "BGINT"):
        np.testing.assert_allclose(other.table[column], result.integration.table[column], rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(other.table["FLAG"], result.integration.table["FLAG"])


def test_the_gain_scales_the_intensities():
    """Counts ten times as large, with the gain that belongs to them: intensities times ten, their pulls the same."""
    result = measured()
    lattice, noise, profile = result.made
    image = image_of(10.0 * result.image.data, ignored=result.image.ignored, saturated=result.image.saturated)
    louder = replace(noise, gain=10 * noise.gain, read_variance=100 * noise.read_variance)
    table = result.extracted.copy()
    table["PX"], table["PY"] = 10 * table["PX"], 10 * table["PY"]
    other = integrate_image(image, table, lattice, louder, profile, GIVEN)
    for column in INTENSITIES:
        one, ten = result.integration.table, other.table
        np.testing.assert_allclose(ten[column], 10 * one[column], rtol=1e-7, atol=1e-4)
        np.testing.assert_allclose(pulls(ten[column], ten[f"VAR{column}"]), pulls(one[column], one[f"VAR{column}"]))


def test_tails_beyond_the_box_choose_a_larger_one():
    """Spots broader than the learned shape says leave something outside, and the curve of growth sees it."""
    result = measured(replace(PLAIN, peak_volume=30000.0), 0, replace(GIVEN, box_grow_amount=3, box_size=4))
    lattice, noise, profile = result.made
    narrow = replace(profile, coefficients=(profile.coefficients[0] - 0.1, *profile.coefficients[1:]))
    given = replace(GIVEN, box_grow_amount=3, box_size=4)
    right, wrong = result.integration, integrate_image(result.image, result.extracted, lattice, noise, narrow, given)
    assert right.step == 0 < wrong.step and wrong.loss[0] > 4 * wrong.loss_sigma[0]
    assert len(right.loss) == len(right.measured.growth.intensity) == 4


def test_pictures():
    """Boxes as they are, less the background, and less the fit over its noise: mean 0 and width 1 in the last."""
    result = measured()
    integration, side = result.integration, 2 * GIVEN.half + 1
    squares, miller = integration.pictures(integration.measured.residual)
    assert squares.shape == (len(result.extracted), side, side)
    np.testing.assert_array_equal(miller, np.column_stack([result.extracted["H"], result.extracted["K"]]))
    left = squares[integration.measured.kept]
    left = left[np.isfinite(left)]
    degrees = 5 / side**2  # of freedom that a fit takes from a box
    assert abs(np.mean(left)) < 0.01 and np.std(left) == pytest.approx(1 - degrees / 2, abs=0.01)
    whole = integration.measured.kept & np.isfinite(integration.corrected).all(axis=1)
    edge = integration.corrected[whole][:, :side].mean(axis=1)
    assert np.mean(edge) == pytest.approx(0, abs=4 * np.std(edge) / np.sqrt(whole.sum()))


def test_an_image_without_spots():
    """Every usable point stays, half of them below zero; no strong spots: N = 0 and no ratio to tell."""
    result = measured()
    ignored, random = result.image.ignored, np.random.default_rng(4)
    empty = image_of(5.0 * random.poisson(30.0, ignored.shape) + random.normal(0, 3, ignored.shape), ignored=ignored)
    bare = result.extracted.copy()
    bare["FLAG"], bare["PX"], bare["PY"] = flags.WEAK, 0.0, 0.0
    found = integrate_image(empty, bare, *result.made, parameters(gain=5.0, read_noise=3.0))
    assert found.step == 0 and found.strong == 0 and np.isnan(found.loss).all()
    assert np.isnan(found.profile_over_box).all()
    table = found.table
    assert np.mean(table["I"] < 0) == pytest.approx(0.5, abs=2 / np.sqrt(len(table)))
    for column in INTENSITIES:
        assert_pulls(pulls(table[column], table[f"VAR{column}"]))
