"""Profile fits: volumes of spots of known place and shape, alone and among neighbours, with right errors."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d import flags, gaussian
from ed2d.boxes import cut, grid, nearest_pixels
from ed2d.lattice import Lattice
from ed2d.neighbours import Neighbours, neighbours
from ed2d.noise import Noise
from ed2d.normalequations import RIDGE
from ed2d.profile import default
from ed2d.profilefit import fit_profiles
from ed2d.spots import fit_held, pixel_flags
from ed2d.zingers import spikes
from stills import assert_pulls, boxes_of, drawn, image_of, many_spots, on_lattice, recorded, shape_of, tracks

HALF = 9
COUNTED = Noise(gain=1.0, read_variance=0.0, offset=0.0)
FEW_ELECTRONS = 0.15  # standard deviations: bias of weights that follow the volume, below an electron per pixel
FEW_WIDTH = 0.25  # and the width of pulls of absent spots there: their variance has half of their positive volumes
UNRESOLVED = 20 * RIDGE  # what a form may have of another profile, each in units of its own sum of squares
FAR = 6.0  # standard deviations
UNNOTICED = 0.004  # of strong spots under tracks: one pixel stays
ODD_PIXELS = 1e-5  # of spots of I/sigma 1000, whose noise rules the first plane
EXTENT = 0.1  # standard deviations, for spots whose peak is just the saturation: noise decides which pixels are left


def alone(n, half=HALF):
    """No neighbours of n points."""
    clear = np.ones((n, (2 * half + 1) ** 2), bool)
    return Neighbours(np.empty((n, 0, clear.shape[1])), clear, clear.copy())


def fit_alone(boxes, noise, spots):
    """Profile fits of boxes of spots (n, 9) at their true places and shapes."""
    return fit_profiles(boxes.without(spikes(boxes, noise)), noise, spots[:, 1:3], shape_of(spots), alone(len(spots)))


def variance_of(fits):
    return fits.variances(fits.forms[:, 0])


def pulls_of(fits, truth):
    return (fits.volume - truth) / np.sqrt(variance_of(fits))


@pytest.mark.parametrize("volume", [0.0, 30.0, 3000.0, 1e6])
@pytest.mark.parametrize(
    ("gain", "read_noise", "offset", "background"),
    [(1, 0, 0, 20), (1, 3, 50, 600), (5, 10, 100, 100), (20, 10, 0, 600)],
)
@pytest.mark.parametrize("widths", [(0.8, 1.0), (1.2, 2.2), (2.8, 3.2)])
def test_pulls(volume, gain, read_noise, offset, background, widths):
    """Absent, weak and strong spots of every width, on tilted backgrounds, at every gain: mean 0 and width 1."""
    random = np.random.default_rng(int(volume) + gain)
    spots = many_spots(1500, random, volume=gain * volume, background=background, widths=widths, slope=0.02)
    boxes = boxes_of(recorded(drawn(HALF, spots), random, gain=gain, read_noise=read_noise, offset=offset))
    fits = fit_alone(boxes, Noise(gain=gain, read_variance=read_noise**2, offset=offset), spots)
    assert_pulls(pulls_of(fits, spots[:, 0]))


@pytest.mark.parametrize("volume", [0.0, 30.0, 300.0, 10000.0])
@pytest.mark.parametrize("background", [0.3, 2.0])
def test_pulls_at_low_dose(volume, background):
    """Where pixels are mostly empty the same, but for what weights do that follow the volume."""
    random = np.random.default_rng(12)
    spots = many_spots(3000, random, volume=volume, background=background, widths=(1.0, 2.2))
    fits = fit_alone(boxes_of(recorded(drawn(HALF, spots), random)), COUNTED, spots)
    assert_pulls(pulls_of(fits, spots[:, 0]), bias=FEW_ELECTRONS, extra_width=FEW_WIDTH)


def test_all_unknowns_are_those_of_least_squares():
    """Volume, constant and slopes equal a separate weighted solution, box by box, and so do their covariances."""
    random = np.random.default_rng(13)
    spots = many_spots(40, random, volume=3000, background=30, slope=0.05)
    usable = random.random((40, 361)) < 0.8
    fits = fit_alone(boxes_of(recorded(drawn(HALF, spots), random), usable=usable), COUNTED, spots)
    dx, dy = grid(HALF)
    own = gaussian.unit_volume(HALF, spots[:, 1:3], shape_of(spots))
    covariances = fits.covariances(np.moveaxis(fits.forms, 1, 0))
    variances = np.stack([fits.variances(fits.forms[:, k]) for k in range(4)], axis=1)
    for n in range(40):
        design = np.column_stack([own[n], np.ones(361), dx, dy])[usable[n]]
        sigma = np.sqrt(fits.variance[n][usable[n]])
        values = fits.boxes.values[n][usable[n]]
        expected, *_ = np.linalg.lstsq(design / sigma[:, None], values / sigma, rcond=None)
        covariance = np.linalg.inv((design / sigma[:, None] ** 2).T @ design)
        np.testing.assert_allclose(fits.unknowns[n], expected, rtol=1e-6, atol=1e-6)
        sigmas = np.sqrt(np.diag(covariance))
        scale = sigmas[:, None] * sigmas
        np.testing.assert_allclose(covariances[:, :, n] / scale, covariance / scale, atol=1e-6)
        np.testing.assert_allclose(variances[n], np.diag(covariance), rtol=1e-6)
    np.testing.assert_array_equal(fits.boxes.usable, usable)


def test_as_precise_as_a_fit_with_held_shape():
    """The same model by another algorithm: volumes agree within small parts of their errors, and the errors too."""
    random = np.random.default_rng(14)
    spots = many_spots(300, random, volume=2000, background=20, slope=0.02)
    boxes = boxes_of(recorded(drawn(HALF, spots), random))
    fits, held = fit_alone(boxes, COUNTED, spots), fit_held(boxes, COUNTED, spots[:, 1:3], shape_of(spots)).fits
    sigma = np.sqrt(held.volume_variance)
    assert np.max(np.abs(fits.volume - held.volume) / sigma) < 0.01
    np.testing.assert_allclose(np.sqrt(variance_of(fits)), sigma, rtol=1e-3)
    model = np.array([gaussian.model(HALF, held)])[0]
    assert np.max(np.abs(fits.model - model) / np.sqrt(fits.variance)) < 0.05


def crowd(lattice, width, n, random, *, background, volumes, ignored=0.0):
    """Fits of n points of a lattice of elliptical spots, their volumes, and their Neighbours."""
    profile = replace(
        default((200.3, 170.7), (340, 400), width, HALF), coefficients=(float(np.log(width)), 0.12, -0.08)
    )
    miller = random.integers(1, 7, (n, 2))
    positions = lattice.position(miller)
    centre = nearest_pixels(positions)
    expected, own = np.full((n, 361), float(background)), volumes(n)
    for i, j in np.argwhere(np.ones((11, 11))) - 5:
        place = lattice.position(miller + np.array([i, j]))
        volume = own if (i, j) == (0, 0) else volumes(n)
        expected += volume[:, None] * gaussian.unit_volume(HALF, place - centre, profile.shape_at(place))
    boxes = boxes_of(recorded(expected, random), usable=random.random((n, 361)) >= ignored)
    near = neighbours(HALF, miller, centre, on_lattice(lattice), profile)
    fits = fit_profiles(boxes, COUNTED, positions - centre, profile.shape_at(positions), near)
    return fits, own, near


CROWDS = {
    "touching": ((6.2, 0.7), (-0.8, 17.0)),
    "all round": ((7.0, 0.6), (-0.9, 8.0)),
    "far": ((15.0, 0.7), (-0.8, 17.0)),
}


@pytest.mark.parametrize("crowded", CROWDS)
@pytest.mark.parametrize("width", [1.2, 1.7])
@pytest.mark.parametrize("background", [5, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_overlapping_spots_are_told_apart(crowded, width, background, seed):
    """Spots with neighbours of all volumes that touch or overlap them: pulls of mean 0 and width 1, absent ones too."""
    random = np.random.default_rng(seed)

    def volumes(n):
        return random.exponential(1500, n) * (random.random(n) < 0.8)

    fits, own, near = crowd(Lattice((200.3, 170.7), *CROWDS[crowded]), width, 1200, random,
                            background=background, volumes=volumes)  # fmt: skip
    assert near.close.all() == (crowded != "far")
    assert_pulls(pulls_of(fits, own), bias=0.02)
    absent = own == 0
    assert_pulls(pulls_of(fits, own)[absent], bias=0.02)


@pytest.mark.parametrize("distance", [2.0, 2.5, 3.0, 4.0])
def test_two_overlapping_spots(distance):
    """Two spots at 2 to 4 widths: both volumes with pulls of mean 0 and width 1, and the predicted covariance."""
    random = np.random.default_rng(int(10 * distance))
    n, width = 1500, 1.5
    shape = gaussian.shape_from_covariance(*np.full((3, n), width**2) * [[1], [0], [1]])
    angle, centre = random.uniform(0, 2 * np.pi, n), random.uniform(-0.5, 0.5, (n, 2))
    beside = centre + width * distance * np.column_stack([np.cos(angle), np.sin(angle)])
    one, two = (gaussian.unit_volume(HALF, place, shape) for place in (centre, beside))
    truth = random.uniform(0, 3000, (2, n))
    boxes = boxes_of(recorded(20 + truth[0, :, None] * one + truth[1, :, None] * two, random))
    near = replace(alone(n), profiles=two[:, None])
    fits = fit_profiles(boxes, COUNTED, centre, shape, near)
    covariance = fits.covariances(np.moveaxis(fits.forms, 1, 0)[[0, 4]])
    variance = [covariance[0, 0], covariance[1, 1]]
    pulls = [(fits.unknowns[:, k] - truth[i]) / np.sqrt(variance[i]) for i, k in enumerate((0, 4))]
    assert_pulls(pulls[0])
    assert_pulls(pulls[1])
    expected = covariance[0, 1] / np.sqrt(variance[0] * variance[1])
    assert np.all(expected < 0) or distance > 3
    product = pulls[0] * pulls[1]
    assert abs(product.mean() - expected.mean()) < 4 * product.std() / np.sqrt(n)


@pytest.mark.parametrize("crowded", CROWDS)
def test_forms_see_their_own_profile_only(crowded):
    """The response of each form to its profile is 1 and to all others 0, whatever pixels are missing."""
    random = np.random.default_rng(15)
    fits, _, _ = crowd(Lattice((200.3, 170.7), *CROWDS[crowded]), 1.5, 200, random,
                       background=20, volumes=lambda n: random.exponential(2000, n), ignored=0.1)  # fmt: skip
    scale = np.sqrt(np.einsum("nkp,np->nk", fits.profiles**2, fits.boxes.usable / fits.variance))
    response = np.einsum("nkp,njp->nkj", fits.forms, fits.profiles)
    response *= np.divide(scale[:, :, None], scale[:, None], out=np.zeros_like(response), where=scale[:, None] > 0)
    expected = np.eye(response.shape[1]) * (scale > 0)[:, None]
    np.testing.assert_allclose(response, expected, atol=UNRESOLVED)
    assert not np.any(fits.forms[np.broadcast_to(~fits.boxes.usable[:, None], fits.forms.shape)])


def test_planes_and_neighbours_leave_the_volume_as_it_is():
    """Counts of another plane or of stronger neighbours added, weights kept: the volumes do not change."""
    random = np.random.default_rng(16)
    lattice = Lattice((200.3, 170.7), *CROWDS["touching"])
    fits, _, _ = crowd(lattice, 1.5, 200, random, background=20, volumes=lambda n: random.exponential(2000, n))
    added = random.normal(size=fits.unknowns.shape) * np.array([0, 5, 0.5, 0.5] + [3000] * (fits.profiles.shape[1] - 4))
    values = fits.boxes.values + fits.boxes.usable * np.einsum("nk,nkp->np", added, fits.profiles)
    volume = np.einsum("np,np->n", fits.forms[:, 0], values)
    np.testing.assert_allclose(volume, fits.volume, atol=1e-5 * np.sqrt(variance_of(fits)).max())
    assert np.abs(values - fits.boxes.values).max() > 100


def test_the_gain_only_scales():
    """Counts times a factor with the noise model of that gain: volumes times it, variances times its square."""
    random = np.random.default_rng(17)
    spots = many_spots(200, random, volume=3000, background=20)
    values = recorded(drawn(HALF, spots), random) + 800 * tracks(HALF, 200, 2, random, 7)
    one = fit_alone(boxes_of(values), COUNTED, spots)
    ten = fit_alone(boxes_of(10 * values), Noise(gain=10.0, read_variance=0.0, offset=0.0), spots)
    np.testing.assert_array_equal(one.boxes.usable, ten.boxes.usable)
    np.testing.assert_allclose(ten.volume, 10 * one.volume, rtol=1e-9)
    np.testing.assert_allclose(variance_of(ten), 100 * variance_of(one), rtol=1e-9)
    np.testing.assert_allclose(ten.residual, one.residual, atol=1e-9)


def test_turned_boxes():
    """Pixels, centres and shapes transposed: the same volumes and variances."""
    random = np.random.default_rng(18)
    spots = many_spots(100, random, volume=3000, background=20, slope=0.05)
    values = recorded(drawn(HALF, spots), random)
    turned = spots[:, [0, 2, 1, 3, 4, 5, 6, 8, 7]] * [1, 1, 1, 1, 1, -1, 1, 1, 1] + [0, 0, 0, 0, 0, 90, 0, 0, 0]
    transposed = values.reshape(-1, 19, 19).transpose(0, 2, 1).reshape(values.shape)
    one, two = (fit_alone(boxes_of(v), COUNTED, s) for v, s in ((values, spots), (transposed, turned)))
    np.testing.assert_allclose(two.volume, one.volume, rtol=1e-9)
    np.testing.assert_allclose(variance_of(two), variance_of(one), rtol=1e-9)
    np.testing.assert_allclose(two.unknowns[:, [1, 3, 2]], one.unknowns[:, 1:4], rtol=1e-6, atol=1e-9)


def test_what_stands_on_unusable_pixels_never_matters():
    """Bitwise equal unknowns, forms and variances whatever masked and saturated pixels of the image hold."""
    random = np.random.default_rng(19)
    data = random.poisson(30.0, (70, 90)).astype(float)
    data[random.random(data.shape) < 0.01] += 900
    ignored, saturated = random.random((2, *data.shape)) < np.array([0.1, 0.005])[:, None, None]
    centre = np.column_stack([random.integers(0, 90, 30), random.integers(0, 70, 30)])
    shape = np.tile(gaussian.shape_from_covariance(4.0, 1.0, 3.0), (30, 1))
    found = []
    for value in (0.0, np.nan, 1e300, -np.inf, 65535.0):
        for full in (1e5, 2e300):
            picture = np.where(ignored, value, np.where(saturated, full, data))
            image = image_of(picture, ignored=ignored, saturated=saturated | (ignored & (picture > 60000)))
            boxes = cut(image, centre, HALF)
            boxes = boxes.without(spikes(boxes, COUNTED))
            found.append(fit_profiles(boxes, COUNTED, np.zeros((30, 2)), shape, alone(30)))
    for fits in found[1:]:
        for name in ("unknowns", "forms", "variance", "residual", "model"):
            np.testing.assert_array_equal(getattr(fits, name), getattr(found[0], name))
    assert np.isfinite(found[0].unknowns).all() and found[0].boxes.saturated.any()


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("volume", [0, 150, 20000])
def test_zingers_do_not_disturb(length, volume):
    """Tracks of 1 to 3 px anywhere in the box: found, and the volumes as without them."""
    random = np.random.default_rng(7)
    spots = many_spots(1000, random, volume=volume, background=20)
    hit = tracks(HALF, 1000, length, random, 7)
    heights = random.uniform(*((500, 5000) if volume < 1000 else (3000, 9000)), (1000, 1))
    fits = fit_alone(boxes_of(recorded(drawn(HALF, spots), random) + hit * heights), COUNTED, spots)
    pulls = pulls_of(fits, spots[:, 0])
    good = np.abs(pulls) < FAR
    assert np.mean(~good) <= (UNNOTICED if volume == 20000 else 0)
    assert_pulls(pulls[good])
    assert np.mean(pixel_flags(fits.boxes) == flags.ZINGER) > 1 - UNNOTICED


@pytest.mark.parametrize("volume", [0, 150, 20000, 1000000])
def test_honest_spots_lose_no_pixel(volume):
    """No pixel of a Gaussian spot is taken for a zinger."""
    random = np.random.default_rng(8)
    spots = many_spots(1000, random, volume=volume, background=10, widths=(1.0, 2.5))
    fits = fit_alone(boxes_of(recorded(drawn(HALF, spots), random)), COUNTED, spots)
    assert np.mean(~fits.boxes.usable) <= (ODD_PIXELS if volume == 1000000 else 0)


@pytest.mark.parametrize(("volume", "saturation"), [(2000, 150), (20000, 600), (20000, 1500), (200000, 5000)])
@pytest.mark.parametrize("seed", [0, 1])
def test_saturated_cores_are_recovered_from_the_wings(volume, saturation, seed):
    """Peaks from as high as the saturation to ten times as high: what is left tells the volume, and how well."""
    random = np.random.default_rng(seed)
    spots = many_spots(800, random, volume=volume, background=20, widths=(1.3, 2.2), centre=0.5)
    column = recorded(drawn(HALF, spots), random).reshape(-1, 19)
    image = image_of(np.minimum(column, saturation), saturated=column >= saturation)
    centre = np.column_stack([np.full(800, HALF), 19 * np.arange(800) + HALF])
    fits = fit_alone(cut(image, centre, HALF), COUNTED, spots)
    hit = fits.boxes.saturated.any(axis=1)
    assert hit.mean() > 0.3
    assert_pulls(pulls_of(fits, spots[:, 0]), bias=0 if hit.all() else EXTENT)
    lost = np.einsum("np,np->n", fits.boxes.saturated, fits.profiles[:, 0])
    assert np.median(lost[hit]) > 0.5


def test_broadening_is_the_change_with_the_width():
    """Derivative of the own profile with the logarithm of both widths, against differences."""
    random = np.random.default_rng(9)
    spots = many_spots(50, random, volume=1000, background=20, centre=2.0)
    fits = fit_alone(boxes_of(drawn(HALF, spots)), COUNTED, spots)
    step = 1e-5
    wider, narrower = (
        gaussian.unit_volume(HALF, spots[:, 1:3], shape_of(spots * [1, 1, 1, scale, scale, 1, 1, 1, 1]))
        for scale in (np.exp(step), np.exp(-step))
    )
    np.testing.assert_allclose(fits.broadening, (wider - narrower) / (2 * step), atol=1e-8)


def test_parts_add_up():
    """Model, slope and surroundings are what their names say; residuals of the right model have mean 0 and width 1."""
    random = np.random.default_rng(10)
    lattice = Lattice((200.3, 170.7), *CROWDS["all round"])
    fits, _, _ = crowd(lattice, 1.4, 200, random, background=20, volumes=lambda n: random.exponential(2000, n))
    whole = fits.surroundings + fits.unknowns[:, 1:2] + fits.volume[:, None] * fits.profiles[:, 0]
    np.testing.assert_allclose(whole, fits.model, rtol=1e-9)
    dx, dy = grid(HALF)
    np.testing.assert_allclose(fits.slope, fits.unknowns[:, 2:3] * dx + fits.unknowns[:, 3:4] * dy, atol=1e-9)
    usable = fits.boxes.usable
    assert not fits.residual[~usable].any() and np.all(fits.variance > 0)
    assert fits.others == [2, 3, *range(4, fits.profiles.shape[1])]
    unknowns = np.count_nonzero(fits.profiles.any(axis=2), axis=1)
    squares = np.sum(fits.residual**2, axis=1)
    chi2 = fits.reduced_chi2
    np.testing.assert_allclose(chi2, squares / (usable.sum(axis=1) - unknowns), rtol=1e-9)
    assert abs(chi2.mean() - 1) < 4 * chi2.std() / np.sqrt(len(chi2)) + 0.01
