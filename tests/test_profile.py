"""The learned profile: logarithmic widths as smooth functions of the place, with scatter and error."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ed2d import gaussian
from ed2d.gaussian import log_widths, shape_from_log_widths
from ed2d.history import Header, read_history, write_history
from ed2d.lattice import Lattice
from ed2d.noise import Noise
from ed2d.profile import LEAST_SCATTER, MOST_SPOTS, NARROWEST, RADII, WIDEST, Profile, default, learn
from populations import HALF, fitted
from stills import WIDE_SIGMA, assert_pulls, boxes_of, drawn, recorded

SHAPE = (400, 560)
ORIGIN = (280.0, 200.0)
SCALE = 280.0
START = default(ORIGIN, SHAPE, 2.0, HALF)
ROUNDED = 1e-5  # of the logarithm of a width: seventeen coefficients of six digits
PRIOR = 0.15  # of an error: the truths here are no draws of the prior, and the errors are averages over the image
SLOW = 0.25  # of an error, which is too large by as much where nothing but the mean is needed


def constant(x, y):
    """The same ellipse everywhere."""
    return 0.60 + 0 * x, 0.12 + 0 * x, -0.08 + 0 * x


def tip(x, y):
    """Widths linear in the radius, with a tip at the origin."""
    r = np.hypot(x, y)
    return 0.4 + 0.35 * r, 0.10 + 0.15 * r, -0.10 + 0.10 * r


def cubic(x, y):
    """Polynomials up to the third degree."""
    return (
        0.5 + 0.2 * x * x + 0.05 * y - 0.1 * x * y * y,
        0.1 * x * x - 0.1 * y * y + 0.05 * x,
        0.2 * x * y + 0.05 * y**3,
    )


def turning(x, y):
    """Both widths and the angle linear in the radius, other ones in every direction: no polynomial of any degree."""
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    first = 1.2 + 1.3 * (0.35 + 0.55 * r + 0.08 * np.cos(phi))
    second = 1.2 + 1.3 * (0.05 + 0.40 * r + 0.05 * np.sin(phi))
    angle = 25 + np.degrees(0.35 * r * np.cos(phi - 0.5))
    return log_widths(gaussian.shape_from_widths(first, second, angle)).T


EXACT = (constant, tip, cubic)


def logs_at(truth, positions):
    """True logarithmic widths (n, 3) at positions (n, 2)."""
    x, y = (np.asarray(positions).T - np.array(ORIGIN)[:, None]) / SCALE
    return np.stack(truth(x, y), axis=-1)


def places(n, random):
    return np.column_stack([random.uniform(0, 560, n), random.uniform(0, 400, n)])


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def circles(random):
    """Places (n, 2) all round the origin, at the distances among the spots at which the error is kept."""
    return np.concatenate([ORIGIN + SCALE * radius * directions(12, random) for radius in RADII[:3]])


def inside(n, random, radius):
    """Places (n, 2) within a radius, units of scale, of the origin."""
    return ORIGIN + SCALE * radius * np.sqrt(random.uniform(0, 1, (n, 1))) * directions(n, random)


def directions(n, random):
    """Unit vectors (n, 2)."""
    angle = random.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def fits_of(logs, error):
    """Free fits of the given logarithmic widths (n, 3), each with error (n,), and their significance (n,)."""
    step = 1e-5
    slopes = [
        shape_from_log_widths(logs + step * axis) - shape_from_log_widths(logs - step * axis) for axis in np.eye(3)
    ]
    jacobian = np.stack(slopes, axis=-1) / (2 * step)
    covariance = np.tile(np.eye(9), (len(logs), 1, 1))
    covariance[:, 6:, 6:] = (jacobian @ jacobian.transpose(0, 2, 1)) * (error**2)[:, None, None]
    fits = gaussian.Fits.missing(len(logs))
    return replace(fits, amplitude=1 / error, shape=shape_from_log_widths(logs), covariance=covariance), 1 / error


def taught(truth, n, random, *, error, scatter=0.0, radius=None):
    """Positions, fits and significances of n spots; errors spread by a factor of four about `error`.

    scatter: of all logarithmic widths, or of each; radius: units of scale, that no spot is beyond.
    """
    positions = inside(n, random, radius) if radius else places(n, random)
    errors = error * random.uniform(0.5, 2.0, n)
    deviation = np.hypot(np.broadcast_to(scatter, (n, 3)), errors[:, None]) * random.normal(size=(n, 3))
    return positions, *fits_of(logs_at(truth, positions) + deviation, errors)


def found_at(profile, positions):
    return log_widths(profile.shape_at(positions))


@pytest.mark.parametrize("truth", EXACT)
@pytest.mark.parametrize("n", [60, 400, 2 * MOST_SPOTS])
def test_exact_shapes_come_back(truth, n):
    """Without noise constants, tips and polynomials are found everywhere on the image, without scatter or error."""
    random = np.random.default_rng(1)
    profile = learn(*taught(truth, n, random, error=1e-9), default=START)
    inner = ORIGIN + 0.8 * (places(100, random) - ORIGIN)
    np.testing.assert_allclose(found_at(profile, inner), logs_at(truth, inner), atol=LEAST_SCATTER / 3)
    assert profile.spots == min(n, MOST_SPOTS)
    assert profile.scatter == pytest.approx(LEAST_SCATTER)
    assert rms(profile.error_at(inner)) < LEAST_SCATTER


@pytest.mark.parametrize("n", [3, 5, 10])
def test_few_exact_shapes_of_one_kind_come_back(n):
    """Three spots alike are enough to say so of all places."""
    random = np.random.default_rng(n)
    profile = learn(*taught(constant, n, random, error=1e-9), default=START)
    everywhere = places(50, random)
    np.testing.assert_allclose(found_at(profile, everywhere), logs_at(constant, everywhere), atol=ROUNDED)


@pytest.mark.parametrize("truth", [*EXACT, turning])
@pytest.mark.parametrize("n", [3, 5, 10, 30, 100, 400])
def test_learned_widths_are_off_by_no_more_than_the_error(truth, n):
    """At the spots that taught it, the profile is off to either side, few spots or many.

    The turning ellipses, of which it cannot hold all, stay within the scatter that it finds.
    """
    pulls = []
    for seed in range(40):
        random = np.random.default_rng([seed, n])
        positions, *fits = taught(truth, n, random, error=0.03)
        profile = learn(positions, *fits, default=START)
        off = found_at(profile, positions) - logs_at(truth, positions)
        error = profile.uncertainty_at(positions) if truth is turning else profile.error_at(positions)
        pulls.append(off / error[:, None])
    pulls = np.array(pulls)
    mean = pulls.mean(axis=1)
    assert np.all(np.abs(mean.mean(axis=0)) < WIDE_SIGMA * mean.std(axis=0) / np.sqrt(40))
    assert np.all(np.sqrt(np.mean(pulls**2, axis=(0, 1))) < 1 + PRIOR)


@pytest.mark.parametrize("truth", EXACT)
@pytest.mark.parametrize("n", [30, 100, 400])
def test_the_error_is_that_of_the_learned_widths(truth, n):
    """On circles among the spots, the mean width is off by as much as its error says."""
    pulls = []
    for seed in range(40):
        random = np.random.default_rng([seed, n])
        profile = learn(*taught(truth, n, random, error=0.03), default=START)
        there = circles(random)
        pulls.append((found_at(profile, there) - logs_at(truth, there))[:, 0] / profile.error_at(there))
    assert 1 - SLOW < rms(pulls) < 1 + PRIOR


@pytest.mark.parametrize("truth", [*EXACT, turning])
@pytest.mark.parametrize(("scatter", "error"), [(0.03, 0.05), (0.06, 0.01), (0.10, 0.03)])
def test_pulls_of_the_widths_of_other_spots(truth, scatter, error):
    """Spots that scatter about a truth, many of them: what is said of others has pulls of mean 0 and width 1.

    Their mean widths count, whether the shapes scatter as much, less or more.
    """
    for other in (scatter, 0.02, 0.12):
        each, pulls, found = np.array([scatter, other, other]), [], []
        for seed in range(20):
            random = np.random.default_rng([seed, 5])
            profile = learn(*taught(truth, 400, random, error=error, scatter=each), default=START)
            others = places(30, random)
            width = logs_at(truth, others) + each * random.normal(size=(30, 3))
            pulls.append((width - found_at(profile, others))[:, 0] / profile.uncertainty_at(others))
            found.append(profile.scatter)
        assert_pulls(np.ravel(pulls))
        assert abs(np.mean(found) - scatter) < WIDE_SIGMA * np.std(found) / np.sqrt(20)


@pytest.mark.parametrize("truth", EXACT)
@pytest.mark.parametrize("n", [6, 15, 100, 400])
@pytest.mark.parametrize("radius", [0.5, 0.7])
def test_the_error_grows_beyond_the_spots(truth, n, radius):
    """The farther from the spots, the less is known: at least as much as their distance from them grows."""
    for seed in range(5):
        profile = learn(*taught(truth, n, np.random.default_rng(seed), error=0.03, radius=radius), default=START)
        distance = np.linspace(radius, 1.4, 40)
        error = profile.error_at(ORIGIN + SCALE * np.column_stack([distance, np.zeros(40)]))
        assert np.all(np.diff(error) > 0)
        assert error[-1] / error[0] > distance[-1] / radius
        np.testing.assert_allclose(profile.error_at(ORIGIN + SCALE * np.outer(RADII, [0.6, -0.8])), profile.errors)


@pytest.mark.parametrize("truth", [*EXACT, turning])
@pytest.mark.parametrize("n", [6, 10, 15, 100])
@pytest.mark.parametrize("radius", [0.5, 0.7])
def test_widths_at_the_rim_learned_from_inner_spots(truth, n, radius):
    """Also where widths grow with the radius and no spot teaches: off by no more than the error says."""
    pulls = []
    for seed in range(60):
        random = np.random.default_rng([seed, n])
        profile = learn(*taught(truth, n, random, error=0.03, radius=radius), default=START)
        rim = ORIGIN + SCALE * directions(8, random) * random.uniform(0.9, 1.2, (8, 1))
        off = (found_at(profile, rim) - logs_at(truth, rim))[:, 0]
        pulls.append(off / profile.uncertainty_at(rim))
    assert rms(pulls) < 1 + PRIOR


def test_fits_of_pixels_teach():
    """From free fits of noisy pixels, as extraction makes them: right widths, right error, hardly any scatter."""
    pulls, scatter = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        positions, n = places(300, random), 300
        large, small, angle = gaussian.widths(shape_from_log_widths(logs_at(tip, positions)))
        zero, centre = np.zeros((n, 2)), random.uniform(-0.5, 0.5, (n, 2))
        volume = random.uniform(1000, 30000, n)
        spots = np.column_stack([volume, centre, large, small, angle, np.full(n, 20.0), zero])
        boxes = boxes_of(recorded(drawn(HALF, spots), random))
        held, free = fitted(boxes, Noise(gain=1.0, read_variance=0.0, offset=0.0), spots)
        profile = learn(positions, free.fits, held.fits.significance, default=START)
        there = circles(random)
        pulls.append((found_at(profile, there) - logs_at(tip, there))[:, 0] / profile.error_at(there))
        scatter.append(profile.scatter)
    assert rms(pulls) == pytest.approx(1, abs=2 * PRIOR)
    assert max(scatter) < 0.01


@pytest.mark.parametrize("truth", [constant, cubic])
def test_outliers_hardly_count(truth):
    """A twentieth of the spots, far too narrow or broad, moves the widths by less than half of the error."""
    for seed in range(5):
        random = np.random.default_rng(seed)
        positions, fits, significance = taught(truth, 400, random, error=0.03)
        wild = random.random(400) < 0.05
        logs = log_widths(fits.shape) + wild[:, None] * random.choice([-0.7, 0.7], (400, 3))
        with_them, _ = fits_of(logs, 1 / significance)
        found, clean = (learn(positions, some, significance, default=START) for some in (with_them, fits))
        off = found_at(found, positions) - found_at(clean, positions)
        assert rms(off) < 0.5 * rms(clean.error_at(positions))
        assert found.scatter < clean.scatter + 0.01


def test_of_many_spots_the_significant_ones_teach():
    """More than MOST_SPOTS: the others, here all wrong, have no say."""
    random = np.random.default_rng(4)
    positions, good, strong = taught(cubic, MOST_SPOTS, random, error=0.02)
    elsewhere, poor, weak = taught(constant, 500, random, error=0.2)
    all_fits = gaussian.Fits.joined([poor, good])
    profile = learn(np.concatenate([elsewhere, positions]), all_fits, np.concatenate([weak, strong]), default=START)
    np.testing.assert_allclose(profile.coefficients, learn(positions, good, strong, default=START).coefficients)


@pytest.mark.parametrize("error", [1e-3, 1e-2, 1e-1])
def test_widths_without_any_order(error):
    """As a wrong lattice finds them, few or many, precise or not: within bounds and finite, far off the image too."""
    x, y = np.meshgrid(np.linspace(-3000, 3000, 15), np.linspace(-3000, 3000, 15))
    everywhere = np.column_stack([x.ravel(), y.ravel()])
    for n in (3, 4, 6, 10, 30, 90):
        for seed in range(5):
            random = np.random.default_rng([seed, n])
            logs = np.log(random.choice([1.0, 3.0], n))[:, None] * [1, 0, 0] + random.normal(0, 0.3, (n, 3))
            positions = places(n, random)
            profile = learn(positions, *fits_of(logs, np.full(n, error)), default=START)
            large, small, _ = gaussian.widths(profile.shape_at(everywhere))
            assert np.all((small > NARROWEST - 1e-9) & (large < WIDEST * HALF + 1e-9))
            found = profile.error_at(positions)
            assert np.all((found >= 0) & np.isfinite(found)) and 0 <= profile.scatter < 2
            assert np.isfinite(profile.errors).all()


@pytest.mark.parametrize("truth", [tip, cubic])
def test_beyond_the_spots_only_the_radius_counts(truth):
    """Farther out than the outermost spot, logarithmic widths change alike in all directions."""
    random = np.random.default_rng(14)
    positions, fits, significance = taught(truth, 200, random, error=0.03)
    profile = learn(positions, fits, significance, default=START)
    radius = np.max(np.linalg.norm(positions - ORIGIN, axis=1))
    direction = random.normal(size=(50, 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    at = found_at(profile, ORIGIN + radius * direction)
    for factor in (1.001, 1.2, 1.4):
        change = found_at(profile, ORIGIN + factor * radius * direction) - at
        np.testing.assert_allclose(change, np.tile(change[0], (50, 1)), atol=ROUNDED)
    change = found_at(profile, ORIGIN + 0.7 * radius * direction) - at
    assert np.ptp(change, axis=0).max() > 0.02


@pytest.mark.parametrize("n", [0, 1, 2])
def test_without_spots_the_default(n):
    """Fewer than three spots teach nothing: round, of the given width, everywhere."""
    profile = learn(*taught(cubic, n, np.random.default_rng(0), error=0.01), default=START)
    large, small, _ = gaussian.widths(profile.shape_at([[0, 0], [559, 399], [280, 200]]))
    np.testing.assert_allclose([large, small], 2.0, rtol=1e-6)
    assert profile == START and profile.spots == 0
    assert not profile.error_at([[0, 0], [280, 200]]).any() and not profile.uncertainty_at([[559, 399]]).any()


@pytest.mark.parametrize("n", [5, 40, 400])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_quarter_turn_and_a_mirror_turn_the_shapes(n, mirrored):
    """Axes exchanged, with or without a change of sign: the ellipses turn with the image, and nothing else changes."""
    positions, fits, significance = taught(cubic, n, np.random.default_rng(6), error=0.02, scatter=0.02)
    axes = np.array([[0, 1], [1, 0]] if mirrored else [[0, -1], [1, 0]])
    signs = np.array([1, -1, 1] if mirrored else [1, -1, -1])
    turned = (positions - ORIGIN) @ axes.T + ORIGIN
    fits_turned, _ = fits_of(log_widths(fits.shape) * signs, 1 / significance)
    one = learn(positions, fits, significance, default=START)
    two = learn(turned, fits_turned, significance, default=START)
    np.testing.assert_allclose(found_at(two, turned), found_at(one, positions) * signs, atol=ROUNDED)
    assert two.scatter == pytest.approx(one.scatter, rel=1e-5)
    np.testing.assert_allclose(two.errors, one.errors, atol=ROUNDED)


@pytest.mark.parametrize("angle", [15.0, 30.0, 45.0])
def test_any_turn_turns_the_shapes(angle):
    """By another angle the prior of single monomials is not quite the same: alike within a part of the error."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    axes, twice = np.array([[cos, -sin], [sin, cos]]), np.array([[cos**2 - sin**2, -2 * sin * cos]])
    twice = np.concatenate([twice, [[2 * sin * cos, cos**2 - sin**2]]])
    positions, fits, significance = taught(cubic, 300, np.random.default_rng(8), error=0.03)
    logs = log_widths(fits.shape)
    logs[:, 1:] = logs[:, 1:] @ twice.T
    turned = (positions - ORIGIN) @ axes.T + ORIGIN
    one = learn(positions, fits, significance, default=START)
    two = learn(turned, *fits_of(logs, 1 / significance), default=START)
    expected = found_at(one, positions)
    expected[:, 1:] = expected[:, 1:] @ twice.T
    off = found_at(two, turned) - expected
    assert rms(off) < 0.5 * rms(one.error_at(positions))


def test_the_unit_of_length_does_not_matter():
    """Image, positions and widths twice as large: twice the widths."""
    positions, fits, significance = taught(cubic, 200, np.random.default_rng(9), error=0.03)
    one = learn(positions, fits, significance, default=replace(START, narrowest=0.01, widest=100.0))
    larger, _ = fits_of(log_widths(fits.shape) + np.array([np.log(2), 0, 0]), 1 / significance)
    twice = default((560.0, 400.0), (800, 1120), 4.0, HALF)
    two = learn(2 * positions, larger, significance, default=replace(twice, narrowest=0.01, widest=100.0))
    found = gaussian.widths(two.shape_at(2 * positions)), gaussian.widths(one.shape_at(positions))
    np.testing.assert_allclose(found[0][0], 2 * found[1][0], rtol=ROUNDED)
    np.testing.assert_allclose(found[0][1], 2 * found[1][1], rtol=ROUNDED)


@pytest.mark.parametrize("n", [2, 3, 40, 400])
def test_text_holds_it_exactly(n):
    """Through JSON and through the HISTORY of a reflection file: an equal profile, equal shapes to the last bit."""
    random = np.random.default_rng(10)
    profile = replace(learn(*taught(turning, n, random, error=0.05), default=START), straying=0.1 + 0.2)
    values = json.loads(json.dumps(asdict(profile)))
    from_json = Profile(**values | {name: tuple(values[name]) for name in ("origin", "coefficients", "errors")})
    header = Header(
        program="ed2d 0.1.0",
        step="extract",
        image="ABC0000001",
        batch=1,
        lattice=Lattice(ORIGIN, (19.1, 0.3), (-9.7, 17.2)),
        noise=Noise(gain=1.0, read_variance=0.0, offset=0.0),
        profile=profile,
    )
    positions = places(20, random)
    for back in (from_json, read_history(write_history(header)).profile):
        assert back == profile
        np.testing.assert_array_equal(back.shape_at(positions), profile.shape_at(positions))
