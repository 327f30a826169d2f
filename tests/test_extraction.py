"""Extraction of simulated stills: the lattice, the volumes and their errors, the fixed point, what cannot be done."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ed2d import flags
from ed2d.extraction import NotRefinable, extract_image
from ed2d.lattice import Lattice, predict
from ed2d.refine import parameters_of
from stills import WIDE_SIGMA, assert_pulls, image_of, in_order_of, parameters, still

TRUE = Lattice((301.3, 237.8), (27.1, 3.2), (-4.3, 28.9), 1.2e-7, -2e-7)
START = replace(TRUE, barrel=0.0, spiral=0.0)
SHAPE = (480, 620)
SEEDS = (0, 1)
DOSES = {  # gain, read noise, offset, mean volume at the centre (electrons), share of absent spots
    "dense": (5.0, 3.0, 20.0, 30000.0, 0.0),
    "usual": (5.0, 3.0, 20.0, 6000.0, 0.0),
    "counted": (1.0, 0.0, 0.0, 6000.0, 0.0),
    "noisy": (20.0, 10.0, 100.0, 3000.0, 0.0),
    "weak": (5.0, 3.0, 20.0, 600.0, 0.3),
}
POSITION_FLOOR = {"dense": 0.02, "usual": 0.05, "counted": 0.05, "noisy": 0.08, "weak": 0.5}  # px, rms over the image
LOST_TO_SELECTION = 1 / 6  # standard deviations: spots that fluctuate above CLEAR are not held
FREE_WIDTH = 0.1  # of nine-parameter fits at I/sigma 6 .. 15, beyond the linearised error
SAME_POSITION, SAME_VOLUME = 1e-3, 0.05  # px and standard deviations: two extractions that found the same
UNUSED = flags.NOT_FITTED | flags.SATURATED | flags.OUTLIER | flags.POOR_FIT


@cache
def taken(dose, seed, halo=0.0):
    """Image, truth and parameters (gain given) of a still."""
    gain, read_noise, offset, volume, absent = DOSES[dose]
    image, truth, _ = still(
        TRUE,
        shape=SHAPE,
        seed=seed,
        gain=gain,
        read_noise=read_noise,
        offset=offset,
        peak_volume=volume,
        absent_fraction=absent,
        max_radius=1.5,
        background_diffuse=halo,
    )
    return image, truth, parameters(gain=gain, read_noise=read_noise, offset=offset)


@cache
def extracted(dose, seed):
    image, _, given = taken(dose, seed)
    return extract_image(image, START, given)


def truth_of(result, truth):
    """Truth in the order of the extraction, and which spots stand clear of the beam stop."""
    rows, known = in_order_of(result.miller, truth)
    return rows, known & (rows["trans_min"] > 0.999)


def volume_pulls(result, truth):
    """Pulls of the volumes, and masks of spots to be judged: free fits, held fits, absent spots."""
    rows, clear = truth_of(result, truth)
    fits = result.spots.fits
    clear &= (result.spots.flag & UNUSED == 0) & np.isfinite(fits.volume)
    pulls = (fits.volume - rows["vol_counts"]) / np.sqrt(np.where(clear, fits.volume_variance, 1.0))
    return pulls, clear & ~fits.held, clear & fits.held, clear & (rows["vol_counts"] == 0)


@pytest.mark.parametrize("dose", DOSES)
@pytest.mark.parametrize("seed", SEEDS)
def test_positions(dose, seed):
    """The refined lattice predicts the true centres to a stated floor, its parameters to their standard deviations."""
    _, truth, _ = taken(dose, seed)
    result = extracted(dose, seed)
    rows, known = in_order_of(result.miller, truth)
    calculated = result.lattice.position(result.miller[known])
    deviation = calculated - np.column_stack([rows["x"], rows["y"]])[known]
    assert np.sqrt(np.mean(np.sum(deviation**2, axis=1))) < POSITION_FLOOR[dose]
    refined = result.refined.sigma > 0
    pulls = (parameters_of(result.lattice) - parameters_of(TRUE))[refined] / result.refined.sigma[refined]
    assert refined[:6].all() and np.abs(pulls).max() < (WIDE_SIGMA if refined.all() else np.inf)
    assert result.used.sum() >= 30


@pytest.mark.parametrize("dose", DOSES)
def test_every_predicted_point_has_a_row(dose):
    """Each point that the refined lattice predicts has one row; what is not fitted is NaN and says NOT_FITTED."""
    result = extracted(dose, 0)
    assert set(map(tuple, result.miller)) == set(map(tuple, predict(result.lattice, shape=SHAPE)))
    assert len(result.miller) == len(set(map(tuple, result.miller))) > 300
    unfitted = result.spots.flag & flags.NOT_FITTED != 0
    np.testing.assert_array_equal(np.isnan(result.spots.fits.volume) <= unfitted, True)
    assert np.any(unfitted) and np.all(result.spots.flag[unfitted] & (flags.MASKED | flags.EDGE))
    weak = result.spots.flag & flags.WEAK != 0
    assert np.all(result.spots.fits.held[weak & ~unfitted])
    assert not np.any(result.used & (weak | unfitted))


@pytest.mark.parametrize("dose", DOSES)
def test_pulls_of_volumes(dose):
    """Free and held fits together have mean 0 and width 1; apart, each has the bias of the selection and no more."""
    parts = [volume_pulls(extracted(dose, seed), taken(dose, seed)[1]) for seed in SEEDS]
    pulls, free, held, _ = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert_pulls(pulls[free | held], bias=0.05, extra_width=FREE_WIDTH)
    assert_pulls(pulls[free], bias=0.1, extra_width=FREE_WIDTH)
    assert_pulls(pulls[held], bias=LOST_TO_SELECTION, extra_width=0.05)


def test_absent_spots_are_unbiased():
    """Spots of volume 0: the held fits scatter round 0 with their errors, half of them negative, all of them kept."""
    parts = [volume_pulls(extracted("weak", seed), taken("weak", seed)[1]) for seed in SEEDS]
    pulls, free, _, absent = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert not np.any(absent & free)
    assert_pulls(pulls[absent], bias=0.05, extra_width=0.05)
    share = np.mean(pulls[absent] < 0)
    assert share == pytest.approx(0.5, abs=WIDE_SIGMA * 0.5 / np.sqrt(absent.sum()) + 0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_start_that_is_wrong_far_outside(seed):
    """Vectors wrong by 8 px at the corners, without distortions: the same lattice to a tenth of its errors."""
    image, _, given = taken("usual", seed)
    reference = extracted("usual", seed)
    start = Lattice((302.0, 237.1), (27.55, 2.9), (-4.6, 29.3))
    error = start.position(reference.miller) - reference.lattice.position(reference.miller)
    assert np.linalg.norm(error, axis=1).max() > 7
    result = extract_image(image, start, given)
    deviation = parameters_of(result.lattice) - parameters_of(reference.lattice)
    assert np.all(np.abs(deviation) <= 0.1 * reference.refined.sigma)
    assert set(map(tuple, result.miller)) == set(map(tuple, reference.miller))


@pytest.mark.parametrize("dose", ["usual", "weak"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_restart_moves_nothing(dose, seed):
    """Started from its own result, extraction gives it again to small parts of the errors."""
    image, _, given = taken(dose, seed)
    first = extracted(dose, seed)
    assert_same(extract_image(image, first.lattice, given), first)


def assert_same(second, first):
    """No calculated position moved by 1e-3 px, no volume by 0.05 standard deviations; hardly a flag."""
    np.testing.assert_array_equal(second.miller, first.miller)
    shift = second.lattice.position(first.miller) - first.lattice.position(first.miller)
    assert np.max(np.abs(shift)) < SAME_POSITION
    moved = (second.spots.fits.volume - first.spots.fits.volume) / np.sqrt(first.spots.fits.volume_variance)
    assert np.nanmax(np.abs(moved)) < SAME_VOLUME
    np.testing.assert_array_equal(np.isnan(second.spots.fits.volume), np.isnan(first.spots.fits.volume))
    assert np.mean(second.spots.flag != first.spots.flag) < 0.005


def test_a_restart_with_an_estimated_gain_finds_the_same():
    """The estimate of the gain depends on the lattice; the fixed point holds for it too."""
    image, _, given = taken("usual", 0)
    given = replace(given, gain=0.0, read_noise=0.0)
    first = extract_image(image, START, given)
    second = extract_image(image, first.lattice, given)
    assert first.noise.estimated and first.noise.gain == pytest.approx(5.0, rel=0.05)
    assert second.noise.gain == pytest.approx(first.noise.gain, rel=1e-3)
    assert_same(second, first)


def test_swapped_vectors_swap_the_indices():
    """Exchanging a and b exchanges h and k of every spot and nothing else."""
    image, _, given = taken("usual", 0)
    first = extracted("usual", 0)
    result = extract_image(image, replace(START, a=START.b, b=START.a), given)
    place = {tuple(index): row for row, index in enumerate(result.miller[:, ::-1].tolist())}
    rows = [place[tuple(index)] for index in first.miller.tolist()]
    assert len(place) == len(first.miller)
    np.testing.assert_array_equal(result.spots.flag[rows], first.spots.flag)
    sigma = np.sqrt(first.spots.fits.volume_variance)
    difference = (result.spots.fits.volume[rows] - first.spots.fits.volume) / sigma
    assert np.nanmax(np.abs(difference)) < 0.01
    np.testing.assert_allclose(result.lattice.a, first.lattice.b, atol=1e-5)


def test_masked_pixels_have_no_influence():
    """Under the beam stop anything may stand: the same result to the last bit."""
    image, _, given = taken("usual", 0)
    first = extracted("usual", 0)
    data = np.where(image.ignored, np.nan, image.data.astype(float))
    second = extract_image(image_of(data, ignored=image.ignored, saturated=image.saturated), START, given)
    assert second.lattice == first.lattice
    for name in ("amplitude", "centre", "covariance"):
        np.testing.assert_array_equal(getattr(second.spots.fits, name), getattr(first.spots.fits, name))


def test_a_lattice_off_the_image_is_refused():
    """No predicted point on the image."""
    image, _, given = taken("usual", 0)
    with pytest.raises(NotRefinable, match="no lattice point"):
        extract_image(image, replace(START, origin=(-5000.0, 9000.0)), replace(given, max_radius=300.0))


@pytest.mark.parametrize("gain", [0.0, 5.0])
def test_noise_alone_is_refused(gain):
    """An image without spots has no lattice to refine, whether the gain is given or estimated."""
    random = np.random.default_rng(0)
    image = image_of(5.0 * random.poisson(30.0, SHAPE))
    with pytest.raises(NotRefinable):
        extract_image(image, START, parameters(gain=gain))


@pytest.mark.parametrize(("factor", "ratio"), [(1.0, 1.0), (3.0, 1 / 3), (0.25, 4.0)])
def test_a_wrong_gain_shows_in_the_background(factor, ratio):
    """The median reduced chi-square of weak spots is 1 for the right gain and the inverse of a wrong factor."""
    image, _, given = taken("usual", 0)
    extraction = extract_image(image, START, replace(given, gain=factor * given.gain, read_noise=0.0))
    right = extract_image(image, START, replace(given, read_noise=0.0)).background_rchi2
    assert extraction.background_rchi2 == pytest.approx(ratio * right, rel=0.1)
    assert right == pytest.approx(1.0, abs=0.25)


@cache
def crowded(seed):
    """A still of spots 13 px apart, in whose boxes neighbours stand, its truth and parameters."""
    lattice = Lattice((181.3, 157.8), (13.1, 0.9), (-0.7, 13.6), 1.2e-7, -2e-7)
    doses = {"gain": 5.0, "read_noise": 3.0, "peak_volume": 6000.0, "max_radius": 1.5, "background_diffuse": 0.0}
    image, truth, _ = still(lattice, shape=(320, 360), seed=seed, **doses)
    given = parameters(gain=5.0, read_noise=3.0, box_size=4)
    return image, truth, given, extract_image(image, replace(lattice, barrel=0.0, spiral=0.0), given)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crowd_comes_to_rest(seed):
    """Neighbours are taken off in every round until nothing changes: right volumes, and a restart moves nothing."""
    image, truth, given, result = crowded(seed)
    assert result.settled
    pulls, free, held, _ = volume_pulls(result, truth)
    assert_pulls(pulls[free | held], bias=0.05, extra_width=FREE_WIDTH)
    assert_same(extract_image(image, result.lattice, given), result)
