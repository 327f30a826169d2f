"""The engine of the fits: against scipy and numpy, and what must not change its answers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ed2d import gaussfit, gaussian
from ed2d.boxes import cut, grid
from populations import CASES, HALF, ROUND, in_sigmas, measured, population
from stills import boxes_of, drawn, found_in, image_of, recorded, shape_of, sigma_of

SIGMA_AGREEMENT = 2e-3  # of a standard deviation: scipy and this fit end at the same place
COVARIANCE_AGREEMENT = 2e-3  # relative, scipy's Jacobian being numeric
CHI2_ROUNDING = 4e-9  # of the square of I/sigma: what keeping the matrices regular costs
COLUMNS = ("amplitude", "plane", "centre", "shape", "covariance", "chi2", "dof", "converged")


@pytest.fixture
def uncorrected(monkeypatch):
    """Fits end at the least squares themselves: no bias is taken off."""
    monkeypatch.setattr(gaussfit, "LARGEST_BIAS", 0.0)


def assert_same(first, second, precision=SIGMA_AGREEMENT):
    """Equal parameters, in standard deviations, and covariances."""
    assert np.all(first.converged) and np.all(second.converged)
    assert np.max(in_sigmas(second, first)) < precision
    assert_covariances(first.covariance, second.covariance)


def assert_covariances(first, second):
    """Equal in units of the standard deviations."""
    sigma = np.sqrt(np.einsum("...ii->...i", second))
    np.testing.assert_allclose(
        first / sigma[..., None] / sigma[..., None, :],
        second / sigma[..., None] / sigma[..., None, :],
        atol=COVARIANCE_AGREEMENT,
    )


def assert_equal(first, second):
    """Equal to the last bit."""
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("case", CASES)
def test_against_curve_fit(case, uncorrected):
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
def test_covariance_is_the_inverse_of_the_full_normal_matrix(case, uncorrected):
    """inv(J^T W J) with a numerical J of all nine parameters at the solution, for masked boxes too."""
    _, boxes, weights, first = measured(case, 6, seed=2)
    weights = weights * (np.random.default_rng(2).random(weights.shape) > 0.2)
    fits = gaussfit.fit(boxes, weights, first.centre, first.shape)
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


def test_what_stands_on_unusable_pixels_never_matters():
    """Masked, non-finite and saturated pixels of an image may hold anything: bitwise the same fits."""
    random = np.random.default_rng(6)
    shape = (60, 90)
    data = random.poisson(30.0, shape).astype(float)
    centre = np.column_stack([random.integers(0, 90, 25), random.integers(0, 60, 25)])
    ignored, saturated = random.random(shape) < 0.1, random.random(shape) < 0.05
    results = []
    for value in (0.0, np.nan, np.inf, -np.inf, -1e300, 1e9):
        full = np.where(saturated, value if np.isfinite(value) else 1e5, data)
        image = image_of(np.where(ignored, value, full), ignored=ignored, saturated=saturated)
        boxes = cut(image, centre, HALF)
        weights = boxes.usable / 30.0
        start = np.zeros((25, 2)), np.tile(ROUND, (25, 1))
        results.append((gaussfit.fit(boxes, weights, *start), gaussfit.fit_linear(boxes, weights, *start)))
    for pair in results[1:]:
        for fits, first in zip(pair, results[0], strict=True):
            assert_equal(fits, first)


def test_pixels_without_weight_never_matter():
    """Pixels of weight 0 may hold any finite counts: bitwise the same fits."""
    _, boxes, weights, first = measured("medium", 20, seed=7)
    weights = weights * (np.random.default_rng(7).random(weights.shape) > 0.15)
    for value in (1e12, -1e12, 0.0):
        wild = boxes_of(np.where(weights > 0, boxes.values, value))
        for function in (gaussfit.fit, gaussfit.approach, gaussfit.fit_linear):
            assert_equal(*(function(some, weights, first.centre, first.shape) for some in (boxes, wild)))


def test_a_box_cut_by_the_edge_is_one_with_masked_pixels():
    """Spots near the edges and corners: as the same spots of a larger image, masked there."""
    random = np.random.default_rng(22)
    spots = np.tile([3e4, 0, 0, 2.0, 1.5, 30, 40, 0, 0], (8, 1))
    data = recorded(np.full((120, 160), 40.0), random)
    centre = np.array([[34, 60], [125, 60], [80, 25], [80, 92], [32, 27], [125, 93], [33, 94], [126, 29]])
    for (x, y), spot in zip(centre, drawn(HALF, spots) - 40, strict=True):
        data[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1] += recorded(spot.reshape(19, 19), random)
    inside = np.zeros(data.shape, bool)
    inside[22:98, 30:130] = True
    whole, part = image_of(data, ignored=~inside), image_of(data[22:98, 30:130])
    results = []
    for image, origin in ((whole, (0, 0)), (part, (30, 22))):
        boxes = cut(image, centre - origin, HALF)
        start = np.full((8, 2), 0.3), np.tile(ROUND, (8, 1))
        results.append(gaussfit.fit(boxes, boxes.usable / drawn(HALF, spots), *start))
    assert_equal(*results)
    assert np.all(results[0].dof < 19 * 19 - 9) and results[0].converged.all()
    assert np.all(np.abs(results[0].centre) < 5 * sigma_of(results[0])[:, 4:6])


TURNS = {
    "transposed": (lambda square: square.transpose(0, 2, 1), lambda w: 90 - w, lambda x, y: (y, x)),
    "rotated": (lambda square: np.rot90(square, axes=(1, 2)), lambda w: w - 90, lambda x, y: (y, -x)),
    "mirrored": (lambda square: square[:, :, ::-1], lambda w: -w, lambda x, y: (-x, y)),
}


def turned_and_back(name, boxes, weights, fits):
    """Centre, plane, widths, angle (degrees) and variance of the volume of turned boxes, turned back in one table."""
    turn, angle, place = TURNS[name]
    pixels = [turn(boxes.as_squares(pixels)).reshape(len(boxes), -1) for pixels in (boxes.values, weights)]
    large, small, w = gaussian.widths(fits.shape)
    start = np.column_stack(place(*fits.centre.T)), gaussian.shape_from_widths(large, small, angle(w))
    found = gaussfit.fit(boxes_of(pixels[0]), pixels[1], *start)
    linear = [found.volume, found.amplitude, found.plane[:, 0]]
    expected = [fits.volume, fits.amplitude, fits.plane[:, 0]]
    linear += [*found.centre.T, *found.plane.T[1:]]
    expected += [*place(*fits.centre.T), *place(*fits.plane.T[1:])]
    new_large, new_small, new_w = gaussian.widths(found.shape)
    widths = np.array([new_large - large, new_small - small, np.radians((new_w - angle(w) + 90) % 180 - 90)])
    return np.array(linear) - expected, widths, found


def sigmas_of_widths(fits):
    """Of Bx, By and w (3, n), radians, at least: those of a spot of the same widths without background."""
    large, small, _ = gaussian.widths(fits.shape)
    turned = large * small / np.maximum(large**2 - small**2, 1e-6)
    return np.array([large / 2**0.5, small / 2**0.5, turned]) / fits.significance


@pytest.mark.parametrize("name", TURNS)
def test_least_squares_of_turned_boxes(name, uncorrected):
    """Transposing, rotating and mirroring turn centre, angle and slope; everything else stays."""
    _, boxes, weights, fits = measured("camera", 60, seed=8)
    linear, widths, found = turned_and_back(name, boxes, weights, fits)
    np.testing.assert_allclose(linear, 0, atol=1e-8)
    np.testing.assert_allclose(widths, 0, atol=1e-8)
    np.testing.assert_allclose(found.volume_variance, fits.volume_variance, rtol=1e-9)


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("case", ["camera", "medium"])
def test_turned_boxes(name, case):
    """So too where the bias is taken off, which is that of p, r, s: the angle moves by a tenth of its error."""
    _, boxes, weights, fits = measured(case, 60, seed=8)
    linear, widths, found = turned_and_back(name, boxes, weights, fits)
    sigma = np.vstack([np.sqrt(fits.volume_variance), sigma_of(fits)[:, [0, 1]].T, *[sigma_of(fits)[:, [4]].T] * 2])
    assert np.max(np.abs(linear[:5]) / sigma) < 5e-3
    assert np.max(np.abs(linear[5:]) / sigma_of(fits)[:, 2]) < 5e-3
    assert np.max(np.abs(widths) / sigmas_of_widths(fits)) < 0.1
    np.testing.assert_allclose(found.volume_variance, fits.volume_variance, rtol=0.02)


def test_an_added_plane_changes_only_the_plane():
    """Counts plus a plane, the weights as before: plane parameters grow by it, all else stays."""
    _, boxes, weights, fits = measured("camera", 60, seed=9)
    extra = np.array([700.0, -9.0, 4.0])
    lifted = boxes_of(boxes.values + gaussian.plane(HALF, extra[None, :]))
    found = gaussfit.fit(lifted, weights, fits.centre, fits.shape)
    assert_same(replace(fits, plane=fits.plane + extra), found)
    np.testing.assert_allclose(found.chi2, fits.chi2, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_scaled_counts(factor):
    """Counts times a gain with variances times its square: heights and plane scale, geometry and chi2 stay."""
    _, boxes, weights, fits = measured("medium", 60, seed=10)
    found = gaussfit.fit(boxes_of(factor * boxes.values), weights / factor**2, fits.centre, fits.shape)
    scale = np.array([factor] * 4 + [1.0] * 5)
    scaled = replace(
        fits,
        amplitude=factor * fits.amplitude,
        plane=factor * fits.plane,
        covariance=fits.covariance * scale * scale[:, None],
    )
    assert_same(scaled, found)
    np.testing.assert_allclose(found.chi2, fits.chi2, rtol=1e-6)


def test_the_scale_of_the_weights_scales_the_covariance_only(uncorrected):
    """Weights times ten: the same parameters, a tenth of the covariance, ten times chi2."""
    _, boxes, weights, fits = measured("medium", 60, seed=11)
    found = gaussfit.fit(boxes, 10 * weights, fits.centre, fits.shape)
    assert_same(replace(fits, covariance=fits.covariance / 10), found, 3 * SIGMA_AGREEMENT)
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
        fits = gaussfit.fit(boxes, weights, np.array([20.0, 20.0]) - centre, start)
        results.append((fits, centre + fits.centre))
    (one, first), (two, second) = results
    assert np.max(np.abs(first - second) / sigma_of(one)[:, 4:6]) < 0.3  # other pixels at the rims
    assert abs(one.volume - two.volume) < 0.3 * np.sqrt(one.volume_variance)


def test_order_and_company_do_not_matter():
    """Boxes permuted, split and repeated beyond a block give each its own result."""
    _, boxes, weights, start = population("medium", 3 * gaussfit.BLOCK + 9, seed=13)
    whole = gaussfit.fit(boxes, weights, *start)
    order = np.random.default_rng(13).permutation(len(boxes))
    permuted = gaussfit.fit(boxes[order], weights[order], *(part[order] for part in start))
    assert_same(whole[order], permuted, 1e-5)
    alone = gaussfit.fit(boxes[:1], weights[:1], *(part[:1] for part in start))
    assert_same(whole[:1], alone, 1e-5)


def test_company_that_does_not_converge_does_not_matter():
    """Beside boxes of nothing, of noise and of monsters, the others get the same fits."""
    _, boxes, weights, start = population("medium", 40, seed=23)
    alone = gaussfit.fit(boxes, weights, *start)
    random = np.random.default_rng(23)
    wild = np.vstack([np.zeros((20, 361)), random.poisson(30.0, (40, 361)), random.exponential(1e8, (20, 361))])
    centre = np.concatenate([start[0], random.uniform(-9, 9, (80, 2))])
    crowd = boxes_of(np.vstack([boxes.values, wild]))
    company = gaussfit.fit(
        crowd, np.vstack([weights, np.full((80, 361), 1 / 30)]), centre, np.vstack([start[1], np.tile(ROUND, (80, 1))])
    )
    assert_same(alone, company[:40], 1e-5)
    assert np.isfinite(found_in(company)).all()


def test_converges_from_a_poor_start():
    """Two pixels off with the widths of a round spot of half or twice the size: the same minimum."""
    _, boxes, weights, fits = measured("camera", 200, seed=14)
    offset = np.random.default_rng(14).choice([-2.0, 0.0, 2.0], (200, 2))
    for width in (1.0, 3.2):
        shape = np.tile(gaussian.shape_from_covariance(width**2, 0.0, width**2), (200, 1))
        found = gaussfit.fit(boxes, weights, fits.centre + offset, shape)
        assert np.mean(in_sigmas(found, fits) < 0.01) == 1.0


def test_noise_alone_is_no_error():
    """Boxes of constant counts and of pure noise end in finite numbers without a warning."""
    random = np.random.default_rng(15)
    values = np.vstack([np.full((3, 361), 7.0), np.zeros((2, 361)), random.poisson(20.0, (60, 361))])
    start = np.zeros((65, 2)), np.tile(ROUND, (65, 1))
    for function in (gaussfit.fit, gaussfit.fit_linear):
        fits = function(boxes_of(values), np.full((65, 361), 0.05), *start)
        assert np.isfinite(found_in(fits)).all() and np.isfinite(fits.volume_variance).all()
        assert np.abs(fits.amplitude[:5]).max() < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_linear_fit_against_lstsq(case):
    """Amplitude, plane and their covariance with centre and shape held equal numpy's weighted least squares."""
    spots, boxes, weights, _ = measured(case, 8, seed=16)
    weights = weights * (np.random.default_rng(16).random(weights.shape) > 0.2)
    fits = gaussfit.fit_linear(boxes, weights, spots[:, 1:3], shape_of(spots))
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


def test_a_noiseless_spot_comes_back():
    """Without noise every parameter of the contract comes back from a round start, the angle against x included."""
    for angle in (-89.0, -45.0, -10.0, 0.0, 30.0, 60.0, 90.0):
        values = drawn(HALF, np.array([[1e6, 0.1, -0.2, 2.5, 1.2, angle, 50, 1, -2]]))
        start = np.array([[0.3, -0.5]]), gaussian.shape_from_covariance(*np.array([[2.0], [0.0], [2.0]]))
        fits = gaussfit.fit(boxes_of(values), np.ones_like(values), *start)
        large, small, found = gaussian.widths(fits.shape)
        assert large[0] == pytest.approx(2.5, abs=1e-5) and small[0] == pytest.approx(1.2, abs=1e-5)
        assert abs((found[0] - angle + 90) % 180 - 90) < 1e-4
        np.testing.assert_allclose([*fits.centre[0], *fits.plane[0]], [0.1, -0.2, 50, 1, -2], rtol=1e-4)


def assert_within_bounds(fits):
    """Finite parameters, the centre and the widths (1 / e^p, 1 / e^s) where a box can determine them."""
    assert np.isfinite(found_in(fits)).all()
    assert np.all(np.abs(fits.centre) <= gaussfit.FARTHEST * HALF)
    widths = np.exp(-fits.shape[:, [0, 2]])
    assert np.all((widths >= gaussfit.NARROWEST) & (widths <= gaussfit.WIDEST * HALF))


@pytest.mark.parametrize("width", [0.01, 0.5, 2.0, 30.0, 1e4])
@pytest.mark.parametrize("far", [0.0, 9.0, 500.0])
def test_bounds_hold_from_any_start(width, far):
    """Noise and spots from starts of any width, even far outside of the box: no answer is beyond the bounds."""
    _, boxes, weights, _ = population("camera", 200, seed=24)
    random = np.random.default_rng(24)
    every = boxes_of(np.vstack([boxes.values, random.poisson(20.0, (200, 361))]))
    start = random.uniform(-far, far, (400, 2)), np.tile(ROUND - np.log(width / 2.0) * np.array([1, 0, 1]), (400, 1))
    weights = np.vstack([weights, np.full((200, 361), 1 / 20)])
    assert_within_bounds(gaussfit.fit(every, weights, *start))
    assert_within_bounds(gaussfit.approach(every, weights, *start))


@pytest.mark.parametrize("case", ["camera", "sparse", "broad"])
def test_answers_do_not_pile_up_on_the_bounds(case):
    """From starts 2 px and a factor of two off, no spot ends near a bound and all agree."""
    spots, boxes, weights, fits = measured(case, 500, seed=25)
    random = np.random.default_rng(25)
    start = spots[:, 1:3] + random.uniform(-2, 2, (500, 2))
    shape = shape_of(spots) + np.log(2) * random.uniform(-1, 1, (500, 1)) * np.array([1, 0, 1])
    found = gaussfit.fit(boxes, weights, start, shape)
    widths = np.exp(-found.shape[:, [0, 2]])
    near = np.any((widths < 1.1 * gaussfit.NARROWEST) | (widths > 0.9 * gaussfit.WIDEST * HALF), axis=1)
    near |= np.any(np.abs(found.centre) > 0.9 * gaussfit.FARTHEST * HALF, axis=1)
    same = in_sigmas(found, fits) < 0.05
    assert not np.any(near) and np.all(same)
