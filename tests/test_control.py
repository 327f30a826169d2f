"""Controls by the image itself: right where all is right, and not where the gain, the background or SIGI is wrong."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ed2d.background import intercalated
from ed2d.control import MOST_POINTS, FriedelControl, NullControl, compare_backgrounds, null_control
from ed2d.friedel import r_friedel
from ed2d.intensity import measure_intensities
from ed2d.lattice import Lattice, predict
from ed2d.profile import default
from integrated import GAIN, GIVEN, LATTICE, NOISE, PLAIN, SHAPE, blurred, measured
from stills import WIDE_SIGMA, image_of, on_lattice, parameters, recorded

SEEDS = (0, 1, 2, 3)
HALO = {"background_diffuse": 300.0}
KINDS = {  # changes of PLAIN; parameters
    "plain": ({}, GIVEN),
    "strong": ({"peak_volume": 30000.0, "background": 100.0}, GIVEN),
    "counted": ({"gain": 1.0, "read_noise": 0.0, "background": 10.0}, parameters(gain=1.0)),
    "unknown gain": (HALO, parameters()),
    "unknown gain and pedestal": (HALO | {"gain": 12.0, "offset": 80.0}, parameters(offset=80.0)),
}
NULL = 0.05  # largest mean, and width less 1, of the null controls of some images together
CURVED = 1.0  # mean of the pulls of backgrounds that shows a curved one


def together(summaries):
    """Means, over images, of mean and width of the pulls, and their standard errors."""
    found = [(one.mean, one.width, one.mean_sigma**2, one.width_sigma**2) for one in summaries]
    mean, width, *squares = np.mean(found, axis=0)
    return mean, width, *np.sqrt(np.array(squares) / len(found))


@pytest.mark.parametrize("kind", KINDS)
def test_null_control_of_right_errors(kind):
    """Between the lattice points there is nothing, and box sums and profile fits say so, with right errors."""
    changes, given = KINDS[kind]
    controls = [measured(replace(PLAIN, **changes), seed, given).integration.null_control for seed in SEEDS]
    for name in ("box_sum", "profile_fit"):
        mean, width, mean_sigma, width_sigma = together([getattr(control, name) for control in controls])
        assert abs(mean) < max(NULL, WIDE_SIGMA / 2 * mean_sigma)
        assert abs(width - 1) < max(NULL, WIDE_SIGMA / 2 * width_sigma)


@pytest.mark.parametrize("factor", [1 / 1.3, 1.3])
def test_null_control_notices_a_wrong_gain(factor):
    """A gain given 30 % wrong shows in the width, which goes with its root."""
    result = measured()
    integration = result.integration
    miller = np.column_stack([result.extracted["H"], result.extracted["K"]])
    wrong = replace(NOISE, gain=factor * GAIN)
    flat, profile = np.zeros((len(miller), 3)), result.extraction.profile
    control = null_control(result.image, miller, flat, result.places, wrong, profile, GIVEN, integration.step)
    for name in ("box_sum", "profile_fit"):
        wide, right = getattr(control, name), getattr(integration.null_control, name)
        assert wide.width / right.width == pytest.approx(factor**-0.5, rel=0.03)
        assert wide.width_differs(0.05, 2.0) and not right.width_differs(0.05, 2.0)


def test_null_control_of_correlated_noise():
    """Where a point spread has made the noise of pixels common, the errors of sums over them are right all the same."""
    controls = [blurred(0.5, seed).integration.null_control for seed in (0, 1, 2)]
    for name in ("box_sum", "profile_fit"):
        mean, width, *_ = together([getattr(control, name) for control in controls])
        assert abs(mean) < NULL and abs(width - 1) < NULL


def grainy(seed, share):
    """An image without spots whose background has grains of 1.6 px of a share of its level."""
    random = np.random.default_rng(seed)
    rows, columns = SHAPE
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)
    blur = np.exp(-2 * np.pi**2 * 1.6**2 * (fx**2 + fy**2))
    grains = np.fft.irfft2(np.fft.rfft2(random.normal(0, 1, SHAPE)) * blur, SHAPE)
    level = 100 * GAIN * (1 + share * grains / grains.std())
    return image_of(recorded(level, random, gain=GAIN, read_noise=3.0))


ROUND = default(LATTICE.origin, SHAPE, 1.6, GIVEN.half)


def empty_control(image):
    miller = predict(LATTICE, shape=SHAPE)
    return null_control(image, miller, np.zeros((len(miller), 3)), on_lattice(LATTICE), NOISE, ROUND, GIVEN, 0)


def test_null_control_notices_structure_of_the_background():
    """Grains of the size of spots, of 5 % of the background, are no noise of the counts: the widths say so."""
    even, grains = empty_control(grainy(1, 0.0)), empty_control(grainy(1, 0.05))
    for name in ("box_sum", "profile_fit"):
        assert not getattr(even, name).width_differs(0.1, 4.0)
        assert getattr(grains, name).width_differs(0.15, 4.0) and getattr(grains, name).width > 1.15


def test_null_control_notices_what_lies_between_the_points():
    """A weak spot half-way between the lattice points, as of a superlattice, moves the mean."""
    image = grainy(2, 0.0)
    miller = predict(LATTICE, shape=SHAPE)
    y, x = np.indices(SHAPE)
    extra = np.zeros(SHAPE)
    for place in LATTICE.position(miller + np.array([0.5, 0.5])):
        extra += 100 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 1.6**2))
    control = empty_control(replace(image, data=image.data + extra))
    assert control.box_sum.mean_differs(0.2, 4.0) and control.profile_fit.mean_differs(0.2, 4.0)
    assert control.box_sum.mean > 0 < control.profile_fit.mean


def test_null_control_takes_points_evenly():
    """Of more points than it takes, those are evenly over the image, as the pulls of either half say."""
    lattice = Lattice((271.3, 227.8), (9.0, 0.3), (-0.4, 9.5))
    miller = predict(lattice, shape=SHAPE)
    assert 3 * len(miller) > MOST_POINTS
    data = grainy(3, 0.0).data
    data[:, SHAPE[1] // 2 :] = 2 * data[:, SHAPE[1] // 2 :] - data[:, SHAPE[1] // 2 :].mean()  # twice the noise
    given = replace(GIVEN, box_size=3)
    flat, places = np.zeros((len(miller), 3)), on_lattice(lattice)
    control = null_control(image_of(data), miller, flat, places, NOISE, ROUND, given, 0)
    assert 0.9 * MOST_POINTS < control.profile_fit.number <= MOST_POINTS
    half = np.abs(np.random.default_rng(4).normal(0, np.repeat([1, 2], 100000)))
    assert control.profile_fit.width == pytest.approx(np.quantile(half, 0.6827), abs=0.12)


def test_null_control_of_nothing():
    """Without a usable point there are no pulls, and nothing is complained of."""
    blind = image_of(np.zeros(SHAPE), ignored=True)
    control = empty_control(blind)
    assert isinstance(control, NullControl) and control.box_sum.number == 0
    assert not control.box_sum.width_differs(0.0, 0.0)


def backgrounds_of(level, seed=5):
    """Backgrounds of an image with this expected level (rows, columns), counts, and no spots."""
    image = image_of(recorded(level, np.random.default_rng(seed), gain=GAIN, read_noise=3.0))
    miller, places = predict(LATTICE, shape=SHAPE), on_lattice(LATTICE)
    found = measure_intensities(image, miller, np.zeros((len(miller), 3)), places, NOISE, ROUND, GIVEN)
    mean, variance, _ = intercalated(image, miller, places, NOISE, ROUND)
    kept = found.kept & np.isfinite(mean)
    growth = type(found.growth)(*(array[..., kept] for array in vars(found.growth).values()))
    return compare_backgrounds(growth, 0, mean[kept], variance[kept])


def test_backgrounds_of_a_plane_agree():
    """On a plane rim, fit and intercalated background differ by their errors only."""
    y, x = np.indices(SHAPE)
    backgrounds = backgrounds_of(500 + 0.2 * x - 0.3 * y)
    for summary in (backgrounds.plane, backgrounds.intercalated):
        assert abs(summary.mean) < WIDE_SIGMA * summary.mean_sigma
        assert abs(summary.width - 1) < WIDE_SIGMA * summary.width_sigma


def test_backgrounds_notice_a_curved_halo():
    """Where the background bends like a halo, that between the spots is another one than that round them."""
    y, x = np.indices(SHAPE)
    r2 = (x - 271.3) ** 2 + (y - 227.8) ** 2
    backgrounds = backgrounds_of(300 + 60000 * np.exp(-r2 / (2 * 100**2)))
    assert backgrounds.intercalated.width_differs(CURVED, 4.0) or backgrounds.intercalated.mean_differs(CURVED, 4.0)


def test_backgrounds_notice_mounds_under_the_spots():
    """Diffuse mounds of 5 px round the lattice points are no planes: rim and fit tell different backgrounds."""
    y, x = np.indices(SHAPE)
    level = np.full(SHAPE, 500.0)
    for place in LATTICE.position(predict(LATTICE, shape=SHAPE)):
        level += 200 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 5.0**2))
    backgrounds = backgrounds_of(level)
    assert backgrounds.plane.mean_differs(CURVED, 4.0) and backgrounds.intercalated.mean_differs(CURVED, 4.0)
    assert backgrounds.intercalated.mean > 0


def friedel_data(random, n, scale=1.0):
    """Miller indices, intensities of mates that differ by `scale` times their errors, variances and radii."""
    half = np.array([(h, k) for h in range(-n, n + 1) for k in range(-n, n + 1) if (h, k) > (0, 0)])
    miller = np.concatenate([half, -half])
    volume = np.tile(random.exponential(1000, len(half)), 2)
    variance = 400.0 + volume
    intensity = volume + scale * random.normal(0, np.sqrt(variance))
    return miller, intensity, variance, np.hypot(*miller.T)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_friedel_control(scale):
    """Mates that differ by a factor of their errors: this is the scatter of all, of every bin, and the model's K."""
    data = friedel_data(np.random.default_rng(6), 12, scale)
    control = FriedelControl.of(*data)
    assert control.all.r_friedel == pytest.approx(r_friedel(*data[:2])[0], rel=1e-12)
    for agreement in (control.all, *control.by_significance, *control.by_radius):
        assert abs(agreement.scatter - scale) < WIDE_SIGMA * agreement.scatter_sigma
    assert abs(control.model.sdfac - scale) < WIDE_SIGMA * control.model.sdfac_sigma
    for bins in (control.by_significance, control.by_radius):
        assert sum(agreement.pairs for agreement in bins) == control.all.pairs == len(data[0]) // 2
        assert all(one.high <= other.low for one, other in pairwise(bins))


def test_friedel_control_of_stills():
    """The mates of simulated stills differ by their errors, for box sums and for profile fits."""
    for seed in SEEDS:
        integration = measured(PLAIN, seed).integration
        for control in (integration.box_sums, integration.profile_fits):
            assert control.all.pairs > 50
            assert abs(control.all.scatter - 1) < WIDE_SIGMA * control.all.scatter_sigma
            assert abs(control.model.sdfac - 1) < WIDE_SIGMA * control.model.sdfac_sigma
