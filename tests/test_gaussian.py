"""The Gaussian fits: against scipy, against the truth by pulls, and what must not change them."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ed2d import gaussian
from ed2d.boxes import cut, grid
from ed2d.noise import Noise
from stills import assert_pulls, boxes_of, drawn, image_of, many_spots, recorded

HALF = 9
SIGMA_AGREEMENT = 2e-3  # of a standard deviation: scipy and this fit end at the same place
COVARIANCE_AGREEMENT = 2e-3  # relative, scipy's Jacobian being numeric
SECOND_ORDER = 2.0  # / (I/sigma): bias of a pull, in standard deviations, that a linearised error leaves
CHI2_ROUNDING = 4e-9  # of the square of I/sigma: what keeping the matrices regular costs
CASES = {  # volume, background (counts), gain, read noise, widths; I/sigma of the volume
    "dense": (20000, 30, 1, 0, (1.2, 2.2)),  # 130
    "medium": (2000, 30, 1, 0, (1.2, 2.2)),  # 30
    "sparse": (500, 5, 1, 0, (1.2, 2.2)),  # 17
    "camera": (20000, 150, 5, 10, (1.2, 2.2)),  # 49
    "narrow": (400000, 600, 20, 10, (1.0, 1.3)),  # 137
    "broad": (40000, 100, 1, 3, (2.5, 3.2)),  # 140
    "bright": (1000000, 10, 1, 3, (1.5, 3.0)),  # 995
}


def parameters_of(spots):
    """A, C, Px, Py, x, y, p, r, s of spots (n, 9) of `drawn`."""
    volume, x, y, large, small, angle, c, px, py = spots.T
    shape = gaussian.shape_from_widths(large, small, angle)
    return np.column_stack([volume / (2 * np.pi * large * small), c, px, py, x, y, shape])


def found_in(fits):
    """The nine parameters of the fits in the order of their covariance."""
    return np.column_stack([fits.amplitude, fits.plane, fits.centre, fits.shape])


def sigma_of(fits):
    return np.sqrt(np.einsum("nii->ni", fits.covariance))


def measured(case, n, *, seed, half=HALF):
    """Spots, boxes, weights and fits of n random spots of a case, the start off by a few tenths of a pixel."""
    volume, background, gain, read_noise, widths = CASES[case]
    random = np.random.default_rng(seed)
    spots = many_spots(n, random, volume=volume, background=background, widths=widths, slope=0.02)
    expected = drawn(half, spots)
    boxes = boxes_of(recorded(expected, random, gain=gain, read_noise=read_noise))
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    weights = 1 / noise.variance(expected)
    start = spots[:, 1:3] + random.normal(0, 0.3, (n, 2))
    return spots, boxes, weights, gaussian.fit(boxes, weights, start, parameters_of(spots)[:, 6:])


def assert_same(first, second, precision=SIGMA_AGREEMENT):
    """Equal parameters, in standard deviations, and covariances."""
    assert np.all(first.converged) and np.all(second.converged)
    assert np.max(np.abs(found_in(first) - found_in(second)) / sigma_of(first)) < precision
    assert_covariances(first.covariance, second.covariance)


def assert_covariances(first, second):
    """Equal in units of the standard deviations."""
    sigma = np.sqrt(np.einsum("...ii->...i", second))
    np.testing.assert_allclose(
        first / sigma[..., None] / sigma[..., None, :],
        second / sigma[..., None] / sigma[..., None, :],
        atol=COVARIANCE_AGREEMENT,
    )


@pytest.mark.parametrize("case", CASES)
def test_against_curve_fit(case):
    """Volume, centre, widths, angle, plane and their errors equal scipy's fit of the contract's formula."""
    spots, boxes, weights, fits = measured(case, 4, seed=1)
    large, small, angle = gaussian.widths(fits.shape)
    for n in range(4):
        solution, covariance = curve_fit(
            lambda _, *p: drawn(HALF, np.array([p]))[0],
            None,
            boxes.values[n],
            p0=spots[n],
            sigma=weights[n] ** -0.5,
            absolute_sigma=True,
            xtol=1e-12,
            ftol=1e-12,
        )
        sigma = np.sqrt(np.diag(covariance))
        mine = np.array([fits.volume[n], *fits.centre[n], large[n], small[n], angle[n], *fits.plane[n]])
        solution[3:6] = as_widths(*solution[3:6])
        deviation = mine - solution
        deviation[5] = (deviation[5] + 90) % 180 - 90
        assert np.max(np.abs(deviation / sigma)) < SIGMA_AGREEMENT
        assert fits.volume_variance[n] == pytest.approx(covariance[0, 0], rel=COVARIANCE_AGREEMENT)
        residual = boxes.values[n] - drawn(HALF, np.array([[*mine]]))[0]
        rounding = CHI2_ROUNDING * fits.significance[n] ** 2
        assert fits.chi2[n] == pytest.approx(np.sum(weights[n] * residual**2), rel=1e-6, abs=rounding)
        assert fits.dof[n] == len(residual) - 9


def as_widths(bx, by, angle):
    """The same ellipse with Bx >= By > 0."""
    bx, by = abs(bx), abs(by)
    return (bx, by, angle) if bx >= by else (by, bx, angle + 90)


@pytest.mark.parametrize("case", ["medium", "sparse", "bright"])
def test_covariance_is_the_inverse_of_the_full_normal_matrix(case):
    """inv(J^T W J) with a numerical J of all nine parameters at the solution, for masked boxes too."""
    _, boxes, weights, first = measured(case, 6, seed=2)
    weights = weights * (np.random.default_rng(2).random(weights.shape) > 0.2)
    fits = gaussian.fit(boxes, weights, first.centre, first.shape)
    theta, sigma = found_in(fits), sigma_of(fits)
    for n in range(len(boxes)):
        columns = []
        for k in range(9):
            step = np.zeros(9)
            step[k] = 1e-4 * sigma[n, k]
            columns.append((counts(theta[n] + step) - counts(theta[n] - step)) / (2 * step[k]))
        jacobian = np.array(columns) * np.sqrt(weights[n]) * sigma[n][:, None]
        inverse = np.linalg.inv(jacobian @ jacobian.T) * sigma[n] * sigma[n][:, None]
        assert_covariances(fits.covariance[n], inverse)


def counts(theta):
    """The model of the module's own parameters, written out."""
    amplitude, c, px, py, x, y, p, r, s = theta
    dx, dy = grid(HALF)
    u, v = np.exp(p) * (dx - x) + r * (dy - y), np.exp(s) * (dy - y)
    return amplitude * np.exp(-(u * u + v * v) / 2) + c + px * dx + py * dy


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [3, 4])
def test_pulls_of_all_nine_parameters(case, seed):
    """Fisher errors: every parameter, and the volume, scatters round its truth by its own standard deviation."""
    spots, _, _, fits = measured(case, 900, seed=seed)
    assert fits.converged.all()
    allowance = SECOND_ORDER / np.median(fits.significance)
    pulls = (found_in(fits) - parameters_of(spots)) / sigma_of(fits)
    pulls = np.column_stack([pulls, (fits.volume - spots[:, 0]) / np.sqrt(fits.volume_variance)])
    for column in pulls.T:
        assert_pulls(column, bias=allowance, extra_width=allowance / 2)
    assert fits.reduced_chi2.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / fits.dof.sum()) + 1e-3)


@pytest.mark.parametrize("case", ["medium", "broad"])
def test_pulls_at_the_edge_and_under_masks(case):
    """Half of a box missing, or a fifth of its pixels masked: the errors grow and stay right."""
    spots, boxes, weights, _ = measured(case, 900, seed=5)
    random = np.random.default_rng(5)
    dx, dy = grid(HALF)
    seen = random.random(weights.shape) > 0.2
    seen[::2] &= (dx > -3)[None, :]
    seen[::3] &= (dy < 4)[None, :]
    truth = parameters_of(spots)
    fits = gaussian.fit(boxes, weights * seen, truth[:, 4:6], truth[:, 6:])
    pulls = (found_in(fits) - truth) / sigma_of(fits)
    assert fits.converged.all()
    np.testing.assert_array_equal(fits.dof, seen.sum(axis=1) - 9)
    allowance = 2 * SECOND_ORDER / np.median(fits.significance)
    for column in pulls.T:
        assert_pulls(column, bias=allowance, extra_width=allowance / 2)


def test_what_stands_on_unusable_pixels_never_matters():
    """Masked, non-finite and saturated pixels of an image may hold anything: bitwise the same fits."""
    random = np.random.default_rng(6)
    shape = (60, 90)
    data = random.poisson(30.0, shape).astype(float)
    centre = np.column_stack([random.integers(0, 90, 25), random.integers(0, 60, 25)])
    ignored, saturated = random.random(shape) < 0.1, random.random(shape) < 0.05
    results = []
    for value in (0.0, np.nan, np.inf, -1e300, 1e9):
        image = image_of(np.where(ignored | saturated, value, data), ignored=ignored, saturated=saturated & ~ignored)
        boxes = cut(image, centre, HALF)
        weights = boxes.usable / 30.0
        start = np.zeros((25, 2)), np.tile(gaussian.shape_from_covariance(4.0, 0.0, 4.0), (25, 1))
        results.append((gaussian.fit(boxes, weights, *start), gaussian.fit_linear(boxes, weights, *start)))
    for pair in results[1:]:
        for fits, first in zip(pair, results[0], strict=True):
            for name in ("amplitude", "plane", "centre", "shape", "covariance", "chi2", "dof", "converged"):
                np.testing.assert_array_equal(getattr(fits, name), getattr(first, name))


def test_pixels_without_weight_never_matter():
    """Pixels of weight 0 may hold any finite counts: bitwise the same fits."""
    _, boxes, weights, first = measured("medium", 20, seed=7)
    weights = weights * (np.random.default_rng(7).random(weights.shape) > 0.15)
    start = first.centre, first.shape
    wild = boxes_of(np.where(weights > 0, boxes.values, 1e12))
    for name in ("amplitude", "plane", "centre", "shape", "covariance", "chi2"):
        a, b = (getattr(gaussian.fit(some, weights, *start), name) for some in (boxes, wild))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("turn", "angle", "place"),
    [
        (lambda square: square.transpose(0, 2, 1), lambda w: 90 - w, lambda x, y: (y, x)),
        (lambda square: np.rot90(square, axes=(1, 2)), lambda w: w - 90, lambda x, y: (y, -x)),
        (lambda square: square[:, :, ::-1], lambda w: -w, lambda x, y: (-x, y)),
    ],
    ids=["transposed", "rotated", "mirrored"],
)
def test_turned_boxes(turn, angle, place):
    """Transposing, rotating and mirroring turn centre, angle and slope; volume, widths and errors stay."""
    _, boxes, weights, fits = measured("camera", 60, seed=8)
    turned = [turn(boxes.as_squares(pixels)).reshape(len(boxes), -1) for pixels in (boxes.values, weights)]
    start_centre = np.column_stack(place(*fits.centre.T))
    large, small, w = gaussian.widths(fits.shape)
    start_shape = gaussian.shape_from_widths(large, small, angle(w))
    found = gaussian.fit(boxes_of(turned[0]), turned[1], start_centre, start_shape)
    sigma = sigma_of(fits)[:, :6].min(axis=1)
    new_large, new_small, new_w = gaussian.widths(found.shape)
    for one, two in (
        (found.volume, fits.volume),
        (new_large, large),
        (new_small, small),
        (found.plane[:, 0], fits.plane[:, 0]),
        *zip(found.centre.T, place(*fits.centre.T), strict=True),
        *zip(found.plane.T[1:], place(*fits.plane.T[1:]), strict=True),
    ):
        assert np.max(np.abs(one - two) / np.maximum(sigma, 1e-3 * np.abs(two))) < 0.05
    assert np.max(np.abs((new_w - angle(w) + 90) % 180 - 90)[large > 1.1 * small]) < 0.05
    np.testing.assert_allclose(found.volume_variance, fits.volume_variance, rtol=COVARIANCE_AGREEMENT)


def test_an_added_plane_changes_only_the_plane():
    """Counts plus a plane, the weights as before: plane parameters grow by it, all else stays."""
    _, boxes, weights, fits = measured("camera", 60, seed=9)
    extra = np.array([700.0, -9.0, 4.0])
    lifted = boxes_of(boxes.values + gaussian.plane(HALF, extra[None, :]))
    found = gaussian.fit(lifted, weights, fits.centre, fits.shape)
    expected = gaussian.replace(fits, plane=fits.plane + extra)
    assert_same(expected, found)
    np.testing.assert_allclose(found.chi2, fits.chi2, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_scaled_counts(factor):
    """Counts times a gain with variances times its square: heights and plane scale, geometry and chi2 stay."""
    _, boxes, weights, fits = measured("medium", 60, seed=10)
    found = gaussian.fit(boxes_of(factor * boxes.values), weights / factor**2, fits.centre, fits.shape)
    scale = np.array([factor] * 4 + [1.0] * 5)
    scaled = gaussian.replace(
        fits,
        amplitude=factor * fits.amplitude,
        plane=factor * fits.plane,
        covariance=fits.covariance * scale * scale[:, None],
    )
    assert_same(scaled, found)
    np.testing.assert_allclose(found.chi2, fits.chi2, rtol=1e-6)


def test_the_scale_of_the_weights_scales_the_covariance_only():
    """Weights times ten: the same parameters, a tenth of the covariance, ten times chi2."""
    _, boxes, weights, fits = measured("medium", 60, seed=11)
    found = gaussian.fit(boxes, 10 * weights, fits.centre, fits.shape)
    assert_same(gaussian.replace(fits, covariance=fits.covariance / 10), found)
    np.testing.assert_allclose(found.chi2, 10 * fits.chi2, rtol=1e-6)


def test_a_shift_by_whole_pixels():
    """The same pixels in a box cut one pixel further give the same centre on the image."""
    random = np.random.default_rng(12)
    spot = np.array([[30000, 0.3, -0.2, 2.0, 1.5, 30, 40, 0.1, 0.2]])
    image = image_of(recorded(drawn(20, spot), random).reshape(41, 41))
    start = gaussian.shape_from_widths(np.array([2.0]), np.array([1.5]), np.array([30.0]))
    results = []
    for shift in ([0, 0], [1, -1]):
        centre = np.array([[20, 20]]) + shift
        boxes = cut(image, centre, HALF)
        moved = np.array([[0, -shift[0], -shift[1], 0, 0, 0, 0.1 * shift[0] + 0.2 * shift[1], 0, 0]])
        weights = 1 / drawn(HALF, spot + moved)
        fits = gaussian.fit(boxes, weights, np.array([20.0, 20.0]) - centre, start)
        results.append((fits, centre + fits.centre))
    (one, first), (two, second) = results
    assert np.max(np.abs(first - second) / sigma_of(one)[:, 4:6]) < 0.3  # other pixels at the rims
    assert abs(one.volume - two.volume) < 0.3 * np.sqrt(one.volume_variance)


def test_order_and_company_do_not_matter():
    """Boxes permuted, split and repeated beyond a chunk give each its own result."""
    spots, boxes, weights, fits = measured("medium", gaussian.CHUNK + 90, seed=13)
    start = spots[:, 1:3], parameters_of(spots)[:, 6:]
    whole = gaussian.fit(boxes, weights, *start)
    order = np.random.default_rng(13).permutation(len(boxes))
    permuted = gaussian.fit(boxes[order], weights[order], *(part[order] for part in start))
    assert_same(whole[order], permuted, 1e-5)
    alone = gaussian.fit(boxes[:1], weights[:1], *(part[:1] for part in start))
    assert_same(whole[:1], alone, 1e-5)
    assert_same(fits, whole)


def test_converges_from_a_poor_start():
    """Two pixels off with the widths of a round spot of half or twice the size: the same minimum."""
    _, boxes, weights, fits = measured("camera", 200, seed=14)
    offset = np.random.default_rng(14).choice([-2.0, 0.0, 2.0], (200, 2))
    for width in (1.0, 3.2):
        shape = np.tile(gaussian.shape_from_covariance(width**2, 0.0, width**2), (200, 1))
        found = gaussian.fit(boxes, weights, fits.centre + offset, shape)
        assert np.mean(np.max(np.abs(found_in(found) - found_in(fits)) / sigma_of(fits), axis=1) < 0.01) == 1.0


def test_noise_alone_is_no_error():
    """Boxes of constant counts and of pure noise end in finite numbers without a warning."""
    random = np.random.default_rng(15)
    values = np.vstack([np.full((3, 361), 7.0), np.zeros((2, 361)), random.poisson(20.0, (60, 361))])
    start = np.zeros((65, 2)), np.tile(gaussian.shape_from_covariance(4.0, 0.0, 4.0), (65, 1))
    for function in (gaussian.fit, gaussian.fit_linear):
        fits = function(boxes_of(values), np.full((65, 361), 0.05), *start)
        assert np.isfinite(found_in(fits)).all() and np.isfinite(fits.volume_variance).all()
        assert np.abs(fits.amplitude[:5]).max() < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_linear_fit_against_lstsq(case):
    """Amplitude, plane and their covariance with centre and shape held equal numpy's weighted least squares."""
    spots, boxes, weights, _ = measured(case, 8, seed=16)
    weights = weights * (np.random.default_rng(16).random(weights.shape) > 0.2)
    shape = parameters_of(spots)[:, 6:]
    fits = gaussian.fit_linear(boxes, weights, spots[:, 1:3], shape)
    dx, dy = grid(HALF)
    for n, spot in enumerate(spots):
        unit = drawn(HALF, np.array([[2 * np.pi * spot[3] * spot[4], *spot[1:6], 0, 0, 0]]))[0]
        root = np.sqrt(weights[n])
        design = np.column_stack([unit, np.ones_like(unit), dx, dy]) * root[:, None]
        solution, square, _, _ = np.linalg.lstsq(design, boxes.values[n] * root, rcond=None)
        covariance = np.linalg.inv(design.T @ design)
        sigma = np.sqrt(np.diag(covariance))
        assert np.max(np.abs(np.array([fits.amplitude[n], *fits.plane[n]]) - solution) / sigma) < 1e-4
        found = fits.covariance[n, :4, :4] / sigma / sigma[:, None]
        np.testing.assert_allclose(found, covariance / sigma / sigma[:, None], atol=1e-6)
        rounding = CHI2_ROUNDING * fits.significance[n] ** 2
        assert fits.chi2[n] == pytest.approx(square[0], rel=1e-6, abs=rounding)
        assert fits.dof[n] == np.count_nonzero(weights[n]) - 4
        assert fits.volume[n] == pytest.approx(2 * np.pi * spot[3] * spot[4] * fits.amplitude[n], rel=1e-9)
        assert fits.volume_variance[n] == pytest.approx(
            (2 * np.pi * spot[3] * spot[4]) ** 2 * covariance[0, 0], rel=1e-6
        )
    assert fits.held.all() and not fits.covariance[:, 4:].any() and not fits.covariance[:, :, 4:].any()


@pytest.mark.parametrize("volume", [-300.0, 0.0, 300.0, 5000.0])
def test_pulls_of_the_linear_fit(volume):
    """With the true centre and shape the volume is unbiased whatever its sign."""
    random = np.random.default_rng(17)
    spots = many_spots(900, random, volume=max(volume, 0), background=30, slope=0.02)
    expected = drawn(HALF, spots)
    values = recorded(expected, random) + drawn(HALF, spots * ([min(volume, 0) / max(volume, 1)] + [1] * 5 + [0] * 3))
    fits = gaussian.fit_linear(boxes_of(values), 1 / expected, spots[:, 1:3], parameters_of(spots)[:, 6:])
    assert_pulls((fits.volume - spots[:, 0]) / np.sqrt(fits.volume_variance))


def test_the_angle_is_the_direction_of_the_larger_width():
    """u = cos w (x - Ux) + sin w (y - Uy) runs along Bx: a spot drawn so has its second moments there."""
    for angle in (-89.0, -45.0, -10.0, 0.0, 30.0, 60.0, 90.0):
        spot = np.array([[1e6, 0, 0, 2.5, 1.2, angle, 0, 0, 0]])
        values = drawn(HALF, spot)
        dx, dy = grid(HALF)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along, across = (np.sum(values * d**2) / values.sum() for d in (cos * dx + sin * dy, cos * dy - sin * dx))
        assert along == pytest.approx(2.5**2, rel=0.01) and across == pytest.approx(1.2**2, rel=0.01)
        round_spot = gaussian.shape_from_covariance(np.array([2.0]), np.array([0.0]), np.array([2.0]))
        fits = gaussian.fit(boxes_of(values), np.ones_like(values), np.array([[0.2, -0.3]]), round_spot)
        large, small, found = gaussian.widths(fits.shape)
        assert large[0] == pytest.approx(2.5, abs=1e-5) and small[0] == pytest.approx(1.2, abs=1e-5)
        assert abs((found[0] - angle + 90) % 180 - 90) < 1e-4


def test_angles_lie_in_their_range():
    """-90 < w <= 90 with Bx >= By > 0 for every shape; an upright ellipse has +90."""
    random = np.random.default_rng(18)
    shape = np.column_stack([random.normal(0, 1, 5000), random.normal(0, 2, 5000), random.normal(0, 1, 5000)])
    large, small, angle = gaussian.widths(shape)
    assert np.all((angle > -90) & (angle <= 90)) and np.all((large >= small) & (small > 0))
    for moments in ((1.0, 0.0, 4.0), (1.0, -0.0, 4.0), (1.0, -1e-300, 4.0)):
        upright = gaussian.shape_from_covariance(*(np.array([value]) for value in moments))
        assert gaussian.widths(upright)[2] == 90.0


def test_conversions_of_shapes_round_trip():
    """Widths and angle, second moments and (p, r, s) say the same; the moments match the rotation matrix."""
    random = np.random.default_rng(19)
    large = random.uniform(0.6, 6, 500)
    small = large * random.uniform(0.2, 0.99, 500)
    angle = random.uniform(-90, 90, 500)
    shape = gaussian.shape_from_widths(large, small, angle)
    np.testing.assert_allclose(np.array(gaussian.widths(shape)), [large, small, angle], rtol=1e-9, atol=1e-9)
    moments = gaussian.covariance_from_shape(shape)
    np.testing.assert_allclose(gaussian.shape_from_covariance(*moments), shape, rtol=1e-9, atol=1e-9)
    for n in range(20):
        cos, sin = np.cos(np.radians(angle[n])), np.sin(np.radians(angle[n]))
        axes = np.array([[cos, -sin], [sin, cos]])
        matrix = axes @ np.diag([large[n] ** 2, small[n] ** 2]) @ axes.T
        sxx, sxy, syy = (m[n] for m in moments)
        np.testing.assert_allclose([[sxx, sxy], [sxy, syy]], matrix, rtol=1e-9, atol=1e-12)


def test_the_model_of_a_fit_is_the_formula_of_the_contract():
    """gaussian, plane and model draw what the contract says."""
    spots = many_spots(30, np.random.default_rng(20), volume=900, background=20, slope=0.05)
    theta = parameters_of(spots)
    fits = gaussian.replace(
        gaussian.Fits.missing(30),
        amplitude=theta[:, 0],
        plane=theta[:, 1:4],
        centre=theta[:, 4:6],
        shape=theta[:, 6:],
    )
    np.testing.assert_allclose(gaussian.model(HALF, fits), drawn(HALF, spots), rtol=1e-10)
    np.testing.assert_allclose(fits.volume, spots[:, 0], rtol=1e-12)


def test_missing_joined_and_replaced():
    """Missing fits are NaN and never significant; rows taken from other fits replace them."""
    _, _, _, fits = measured("medium", 5, seed=21)
    missing = gaussian.Fits.missing(8)
    assert np.isnan(missing.volume).all() and not missing.significance.any() and not missing.converged.any()
    mixed = missing.replaced(np.array([1, 3, 4, 6, 7]), fits)
    np.testing.assert_array_equal(mixed.volume[[1, 3, 4, 6, 7]], fits.volume)
    assert np.isnan(mixed.volume[[0, 2, 5]]).all() and np.isnan(missing.amplitude).all()
    both = gaussian.Fits.joined([fits, missing])
    assert len(both) == 13
    np.testing.assert_array_equal(both[:5].covariance, fits.covariance)
