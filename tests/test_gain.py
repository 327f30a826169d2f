"""Gains recovered from images: read noise, pedestals, zingers, sparse and even backgrounds."""

import numpy as np
import pytest

from ed2d import gaussfit, gaussian
from ed2d.boxes import cut, nearest_pixels
from ed2d.gain import BLOCK, UnknownGain, estimate, even_noise
from ed2d.lattice import Lattice
from ed2d.noise import Noise
from ed2d.residuals import background, under_spots
from ed2d.spots import fit_free, fit_held
from stills import assert_pulls, boxes_of, drawn, image_of, many_spots, recorded, still

LATTICE = Lattice((231.3, 187.8), (26.1, 5.2), (-7.3, 27.9))
SHAPE = (420, 560)
GAIN_PRECISION = 0.05  # of the gain, from one image of 420 x 560 px
SEEDS = (0, 1)


def estimated(*, seed, given_offset=None, given_read_noise=0.0, **changes):
    """Noise estimated from a still with spots, halo, sloping background and zingers."""
    values = {"gain": 5.0, "read_noise": 0.0, "offset": 0.0, "saturation": 65000, "peak_volume": 3000.0, **changes}
    image, truth, simulation = still(LATTICE, shape=SHAPE, seed=seed, **values)
    offset = simulation.offset if given_offset is None else given_offset
    positions = np.column_stack([truth["x"], truth["y"]])
    return estimate(image, positions, clearance=6, offset=offset, read_noise=given_read_noise), simulation


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gain", [1.0, 2.0, 5.0, 20.0, 50.0])
@pytest.mark.parametrize(("read_noise", "offset"), [(0.0, 0.0), (3.0, 20.0), (10.0, 100.0)])
def test_gain_of_an_image(gain, read_noise, offset, seed):
    """The gain comes out to 5 %, its own error covers the deviation, and the estimate says that it is one."""
    noise, simulation = estimated(gain=gain, read_noise=read_noise, offset=offset, seed=seed)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)
    assert abs(noise.gain - gain) < 4 * noise.gain_error < 4 * GAIN_PRECISION * gain
    assert noise.estimated and noise.correlation == 1.0 and noise.read_variance >= 0
    assert 0 <= noise.offset - offset < gain  # an intercept 2 standard deviations below 0 moves it, by chance as well
    background = simulation.background * gain
    true = gain * background + read_noise**2
    assert noise.variance(background + offset) == pytest.approx(true, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gain", [1.0, 5.0, 20.0])
def test_gain_with_given_read_noise(gain, seed):
    """A given read noise is kept exactly and the gain found beside it."""
    noise, _ = estimated(gain=gain, read_noise=10.0, offset=100.0, given_read_noise=10.0, seed=seed)
    assert noise.read_noise == 10.0
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
def test_given_read_noise_makes_a_flat_background_enough(seed):
    """Without any slope of the background the variance alone gives the gain once the read noise is known."""
    flat = {"background_diffuse": 0.0, "background_plane": 0.0}
    noise, _ = estimated(read_noise=10.0, given_read_noise=10.0, seed=seed, **flat)
    assert noise.gain == pytest.approx(5.0, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("gain", "pedestal"), [(1.0, 100.0), (5.0, 200.0)])
def test_unnamed_pedestal(gain, pedestal, seed):
    """A pedestal that nobody gave is found, and so the gain is not spoilt by it."""
    noise, _ = estimated(gain=gain, offset=pedestal, given_offset=0.0, seed=seed)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)
    assert noise.offset == pytest.approx(pedestal, abs=3 * gain)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gain", [1.0, 5.0, 20.0])
def test_sparse_counts(gain, seed):
    """0.3 electrons a pixel: most pixels are 0, and the gain is still found."""
    sparse = {"background": 0.3, "background_plane": 0.1, "background_diffuse": 0.0, "peak_volume": 300.0}
    noise, _ = estimated(gain=gain, seed=seed, **sparse)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
def test_zingers_do_not_move_the_gain(seed):
    """With 2000 zingers there is at least one in most blocks; the gain keeps its precision."""
    noise, _ = estimated(zingers=2000, read_noise=5.0, seed=seed)
    assert noise.gain == pytest.approx(5.0, rel=GAIN_PRECISION)
    assert noise.read_noise == pytest.approx(5.0, abs=3.0)


def test_dead_strips_do_not_move_the_gain():
    """Rows and columns of one value, unmasked, leave the estimate within its error."""
    image, truth, simulation = still(LATTICE, shape=SHAPE, seed=2, saturation=65000, peak_volume=3000.0)
    data = image.data.copy()
    data[100:120], data[:, 300:303] = 0, 65000
    positions = np.column_stack([truth["x"], truth["y"]])
    noise = estimate(image_of(data, ignored=image.ignored), positions, clearance=6, offset=simulation.offset)
    assert abs(noise.gain - simulation.gain) < 4 * noise.gain_error < 4 * GAIN_PRECISION * simulation.gain


@pytest.mark.parametrize(("gain", "read_noise"), [(1.0, 15.0), (12.0, 15.0), (50.0, 0.0)])
def test_pulls_of_the_gain(gain, read_noise):
    """Over 60 images without spots the gain has no bias, and its standard deviation is right or a little too large.

    Where the true read noise is 0, so is the smallest estimate of it, and the gain is a little low: hence the bias.
    """
    pulls = []
    expected = 30 + 300 * np.exp(-np.hypot(*np.indices((240, 330))) / 60)
    for seed in range(60):
        counts = recorded(gain * expected, np.random.default_rng(seed), gain=gain, read_noise=read_noise, offset=100.0)
        noise = estimate(image_of(np.rint(counts)), [[330.0, 240.0]], clearance=4, offset=100.0)
        pulls.append((noise.gain - gain) / noise.gain_error)
    assert_pulls(pulls, bias=0.0 if read_noise else 0.4, extra_width=0.1)


def test_the_gain_scales_with_the_counts():
    """Counts times ten: gain times ten, read variance times a hundred."""
    image, truth, _ = still(LATTICE, shape=SHAPE, seed=9, read_noise=10.0, zingers=0)
    positions = np.column_stack([truth["x"], truth["y"]])
    one = estimate(image, positions, clearance=6, offset=0.0)
    scaled = image_of(10.0 * image.data, ignored=image.ignored, saturated=image.saturated)
    ten = estimate(scaled, positions, clearance=6, offset=0.0)
    assert ten.gain == pytest.approx(10 * one.gain, rel=1e-6)
    assert ten.read_variance == pytest.approx(100 * one.read_variance, rel=1e-4)


def test_ignored_pixels_have_no_influence():
    """Whatever stands on masked pixels, the estimate is the same to the last bit."""
    image, truth, _ = still(LATTICE, shape=SHAPE, seed=3)
    positions = np.column_stack([truth["x"], truth["y"]])
    first = estimate(image, positions, clearance=6, offset=0.0)
    data = np.where(image.usable, image.data.astype(float), np.nan)
    assert image.ignored.sum() > 100
    assert estimate(image_of(data, ignored=~image.usable), positions, clearance=6, offset=0.0) == first


def test_blocks_of_a_curved_background():
    """Mean, variance and degrees of freedom of blocks on a background of second degree, away from the spots."""
    random = np.random.default_rng(4)
    y, x = np.indices(SHAPE) / 100
    surface = 50 + 8 * x - 6 * y + 3 * x * y + 2 * x * x - y * y
    data = surface + random.normal(0, 2, SHAPE)
    positions = np.column_stack([random.uniform(0, SHAPE[1], 50), random.uniform(0, SHAPE[0], 50)])
    for px, py in np.round(positions).astype(int):
        data[max(py - 6, 0) : py + 7, max(px - 6, 0) : px + 7] = 1e6
    blocks = background(image_of(data), positions, clearance=6, **BLOCK)
    variance, dof = blocks.variance, blocks.evidence().dof
    assert blocks.counts.max() < 200 and len(blocks) > 500
    assert np.sum(dof * variance) / np.sum(dof) == pytest.approx(4, rel=4 * np.sqrt(2 / np.sum(dof)))
    assert np.std((variance / 4 - 1) * np.sqrt(dof / 2)) == pytest.approx(1, abs=4 / np.sqrt(2 * len(dof)) + 0.02)


def test_without_background_the_gain_is_unknown():
    """Where spots leave no block, and where the background is not above the offset, nothing is guessed."""
    image = image_of(np.random.default_rng(5).poisson(40.0, (40, 60)))
    everywhere = np.argwhere(np.ones((40, 60)))[:, ::-1]
    with pytest.raises(UnknownGain, match="no background"):
        estimate(image, everywhere, clearance=2, offset=0.0)
    dark = image_of(np.random.default_rng(5).normal(100.0, 3.0, (200, 300)))
    with pytest.raises(UnknownGain, match="not above the Offset"):
        estimate(dark, [[150, 100]], clearance=2, offset=101.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("level", "read_noise"), [(2.0, 15.0), (30.0, 0.0), (30.0, 10.0), (300.0, 3.0)])
def test_an_even_background_is_not_believed(level, read_noise, seed):
    """Without contrast the variance of the background is right, and the gain's sigma says that it is not known."""
    counts = recorded(
        np.full(SHAPE, 5.0 * level), np.random.default_rng(seed), gain=5.0, read_noise=read_noise, offset=50.0
    )
    noise = estimate(image_of(counts), [[200.0, 200.0]], clearance=6, offset=50.0)
    truth = 25.0 * level + read_noise**2
    assert noise.variance(5.0 * level + 50.0) == pytest.approx(truth, rel=0.02)
    assert noise.gain_error == noise.gain


@pytest.mark.parametrize("subtracted", [0.0, 100.0, 300.0])
def test_a_subtracted_background_has_the_same_noise(subtracted):
    """Counts of which too much was subtracted, also below 0, keep their variance everywhere."""
    expected = np.broadcast_to(np.linspace(10.0, 100.0, SHAPE[1]), SHAPE)
    counts = recorded(4 * expected, np.random.default_rng(8), gain=4.0, read_noise=5.0)
    noise = estimate(image_of(counts - subtracted), [[200.0, 200.0]], clearance=6, offset=0.0)
    levels = np.array([20.0, 50.0, 90.0])
    np.testing.assert_allclose(noise.variance(4 * levels - subtracted), 16 * levels + 25, rtol=0.05)


def even_still(gain, read_noise, seed, *, halo=0.0, offset=100.0):
    """Strong spots on an even background of 10 electrons, rounded counts: (Image, positions).

    halo: share of the volume in a Gaussian twice as wide, so that the spots are not Gaussian.
    """
    random, half, shape = np.random.default_rng(seed), 9, (520, 640)
    y, x = np.mgrid[half : shape[0] - half : 24, half : shape[1] - half : 24]
    centre = np.column_stack([x.ravel(), y.ravel()])
    spots = many_spots(len(centre), random, volume=1.0, background=0.0)
    spots[:, 0] = 4000 * random.exponential(size=len(centre))
    core, wide = spots.copy(), spots.copy()
    core[:, 0] *= 1 - halo
    wide[:, 0] *= halo
    wide[:, 3:5] *= 2
    expected = np.full(shape, 10.0)
    for (px, py), box in zip(centre, drawn(half, core) + drawn(half, wide), strict=True):
        expected[py - half : py + half + 1, px - half : px + half + 1] += box.reshape(2 * half + 1, -1)
    counts = recorded(gain * expected, random, gain=gain, read_noise=read_noise, offset=offset)
    return image_of(np.rint(counts)), centre + spots[:, 1:3]


def evidence_of(image, positions, noise):
    """Evidence under the clear spots: fits with the noise model, then once more with equal weights."""
    boxes = cut(image, nearest_pixels(positions), 9)
    round_spot = np.tile(gaussian.shape_from_covariance(4.0, 0.0, 4.0), (len(boxes), 1))
    held = fit_held(boxes, noise, positions - boxes.centre, round_spot)
    fits = fit_free(boxes, noise, held.fits, box_size=6).fits
    rows = np.flatnonzero(fits.converged & (fits.significance > 10))
    boxes, fits = boxes[rows], fits[rows]
    return under_spots(boxes, gaussfit.fit(boxes, boxes.usable.astype(float), fits.centre, fits.shape))


def estimated_with_spots(gain, read_noise, seed, *, given_offset=100.0, halo=0.0):
    image, positions = even_still(gain, read_noise, seed, halo=halo)
    first = even_noise(image, positions, clearance=6, offset=given_offset)
    spots = evidence_of(image, positions, first)
    return estimate(image, positions, clearance=6, offset=given_offset, under_spots=spots)


@pytest.mark.parametrize(
    ("gain", "read_noise", "halo"), [(1.0, 0.0, 0.0), (2.0, 3.0, 0.15), (12.0, 15.0, 0.0), (50.0, 20.0, 0.15)]
)
def test_spots_tell_the_gain_of_an_even_still(gain, read_noise, halo):
    """Where the background cannot, the pixels under the spots tell gain and read noise, Gaussian spots or not."""
    noises = [estimated_with_spots(gain, read_noise, seed, halo=halo) for seed in range(4)]
    found, error = np.array([noise.gain for noise in noises]), np.array([noise.gain_error for noise in noises])
    assert np.sqrt(np.mean((found / gain - 1) ** 2)) < 0.03
    assert np.all(np.abs(found - gain) < 4 * error) and np.all(error < 0.04 * gain)
    truth = 10 * gain**2 + read_noise**2
    assert [noise.variance(10 * gain + 100) for noise in noises] == pytest.approx([truth] * 4, rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_spots_tell_the_gain_beside_an_unnamed_pedestal(seed):
    """With a pedestal of 100 counts that nobody gave, the gain of an even still lies within its error."""
    noise = estimated_with_spots(12.0, 15.0, seed, given_offset=0.0)
    assert abs(noise.gain - 12) < 4 * noise.gain_error < 4 * 0.2 * 12
    assert noise.variance(220.0) == pytest.approx(1665, rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gain_does_not_depend_on_the_noise_model_of_the_fits(seed):
    """Fits with the right noise model, with too much gain, and without any give the same gain."""
    image, positions = even_still(12.0, 15.0, seed)
    models = [(12.0, 225.0), (15.0, 0.0), (0.0, 1500.0)]
    noises = [Noise(gain=gain, read_variance=variance, offset=100.0) for gain, variance in models]
    found = [
        estimate(image, positions, clearance=6, offset=100.0, under_spots=evidence_of(image, positions, noise))
        for noise in noises
    ]
    for noise in found[1:]:
        assert abs(noise.gain - found[0].gain) < 0.3 * found[0].gain_error


@pytest.mark.parametrize(("gain", "read_noise"), [(1.0, 0.0), (5.0, 20.0), (50.0, 20.0)])
def test_residuals_under_spots_are_freed_of_the_leverage(gain, read_noise):
    """A fit takes up a sixth of the noise under the peak; corrected, the variances are those of the counts."""
    random = np.random.default_rng(3)
    spots = many_spots(800, random, volume=3000 * gain, background=20 * gain, slope=0.02)
    boxes = boxes_of(recorded(drawn(9, spots), random, gain=gain, read_noise=read_noise))
    start = gaussian.shape_from_widths(spots[:, 3], spots[:, 4], spots[:, 5])
    evidence = under_spots(boxes, gaussfit.fit(boxes, np.ones(boxes.values.shape), spots[:, 1:3], start))
    assert len(evidence) == 800 and np.median(evidence.absorbed) > 0.15
    ratio = evidence.variance / (gain * evidence.counts + read_noise**2)
    error = np.std(ratio) / np.sqrt(len(ratio))
    assert np.mean(ratio) == pytest.approx(1, abs=4 * error) and error < 0.015
    assert np.std((ratio - 1) * np.sqrt(evidence.dof / 2)) == pytest.approx(1, abs=0.12)


def blurred(counts, kernel):
    """Counts of which every row and column was convolved with `kernel`, odd, cyclic at the edges."""
    for axis in (0, 1):
        shifts = range(-(len(kernel) // 2), len(kernel) // 2 + 1)
        counts = sum(share * np.roll(counts, shift, axis) for share, shift in zip(kernel, shifts, strict=True))
    return counts


def spread_kernel(width):
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / width) ** 2)
    return kernel / kernel.sum()


def halo(shape):
    """Expected electrons of a background with a halo and a slope."""
    y, x = np.indices(shape)
    return 30 + 5e-3 * x + 3000 * np.exp(-np.hypot(x - 0.45 * shape[1], y - 0.55 * shape[0]) / 60)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [0.35, 0.5])
@pytest.mark.parametrize(
    ("gain", "read_noise", "given_offset"),
    [(2.0, 3.0, 100.0), (12.0, 15.0, 100.0), (12.0, 15.0, 0.0), (50.0, 15.0, 0.0)],
)
def test_gain_with_a_point_spread(gain, read_noise, given_offset, width, seed):
    """Electrons that spread over pixels: the gain is that of sums over pixels, and the correlation is told."""
    random, kernel = np.random.default_rng(seed), spread_kernel(width)
    electrons = blurred(recorded(gain * halo((600, 720)), random, gain=gain), kernel)
    counts = np.rint(electrons + random.normal(100.0, read_noise, electrons.shape))
    noise = estimate(image_of(counts), [[324.0, 330.0]], clearance=20, offset=given_offset)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)
    assert abs(noise.gain - gain) < 4 * noise.gain_error < 4 * GAIN_PRECISION * gain
    shot, rest = gain**2 * 32, read_noise**2 + 1 / 12  # at the level of most of the background
    expected = (shot + rest) / (shot * np.sum(kernel**2) ** 2 + rest)
    assert noise.correlation == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("read_noise", [15.0, 60.0])
def test_gain_of_an_interpolated_image(read_noise, seed):
    """The mean of four pixels each, as of an image moved by half a pixel: read noise is correlated as well."""
    random = np.random.default_rng(seed)
    counts = recorded(12.0 * halo((600, 720)), random, gain=12.0, read_noise=read_noise, offset=100.0)
    image = image_of(blurred(counts, [0.5, 0.5, 0.0]))
    noise = estimate(image, [[324.0, 330.0]], clearance=20, offset=100.0)
    assert noise.gain == pytest.approx(12.0, rel=GAIN_PRECISION)
    assert noise.correlation == pytest.approx(4.0, rel=0.02)
    assert noise.variance(100 + 12 * 33) == pytest.approx(144 * 33 + read_noise**2, rel=GAIN_PRECISION)


def test_even_noise_is_the_variance_of_the_background():
    """One variance for all pixels, whatever they count; it does not pass for a known gain."""
    image, positions = even_still(5.0, 10.0, 1)
    noise = even_noise(image, positions, clearance=6, offset=100.0)
    assert noise.variance(np.array([100.0, 5000.0])) == pytest.approx(350.0, rel=0.02)
    assert noise.estimated and noise.gain_error == np.inf
