"""The lattice: positions, their inverse, the predicted points and what describes a lattice."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d.lattice import Lattice, predict

PLAIN = Lattice((231.3, 187.8), (26.1, 5.2), (-7.3, 27.9))
BENT = replace(PLAIN, barrel=3e-7, spiral=-2e-7)
SKEW = Lattice((20.0, 400.5), (31.0, 2.0), (58.0, 33.0), -4e-8, 6e-8)
FOLDED = replace(PLAIN, barrel=-9e-6)
FOLDED_AND_TURNED = replace(PLAIN, barrel=-9e-6, spiral=3e-6)
OFF_IMAGE = Lattice((-20.0, 420.0), (17.0, 1.0), (3.0, -19.0))
ALL = [PLAIN, BENT, SKEW, FOLDED, FOLDED_AND_TURNED, OFF_IMAGE]
SHAPE = (370, 521)
INVERSE = 1e-9  # of an index, where the distortion moves a point by less than a tenth of its radius


def random_lattice(random):
    basis = random.normal(0, 30, (2, 2))
    return Lattice(tuple(random.uniform(0, 500, 2)), tuple(basis[0]), tuple(basis[1]))


def every_point(lattice, reach=90):
    h, k = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.column_stack([h.ravel(), k.ravel()])


def shortest_vectors(lattice, norm):
    vectors = every_point(lattice, 30) @ lattice.basis
    return np.sort(norm(vectors))[1:]


def test_position_by_hand():
    """The formula of the contract, by hand: s = (30, 40), |s|^2 = 2500."""
    lattice = Lattice((100.0, 200.0), (30.0, 0.0), (0.0, 20.0), 1e-4, 2e-4)
    x, y = 100 + 1.25 * 30 + 0.5 * 40, 200 - 0.5 * 30 + 1.25 * 40
    np.testing.assert_allclose(lattice.position([[1, 2], [0, 0]]), [[x, y], [100, 200]], rtol=1e-14)


def test_position_in_complex_numbers():
    """Independently: o + (1 + (Kb - i Ks) |s|^2) s in the complex plane, fractional indices allowed."""
    miller = np.random.default_rng(3).uniform(-9, 9, (50, 2))
    s = miller @ np.array([complex(*BENT.a), complex(*BENT.b)])
    z = complex(*BENT.origin) + (1 + complex(BENT.barrel, -BENT.spiral) * abs(s) ** 2) * s
    np.testing.assert_allclose(BENT.position(miller), np.column_stack([z.real, z.imag]), rtol=1e-13)


@pytest.mark.parametrize("strength", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_index_inverts_position(strength, seed):
    """Distortions of either sign up to a tenth of the radius: index(position(hk)) = hk."""
    random = np.random.default_rng(seed)
    miller = random.uniform(-12, 12, (200, 2))
    largest = np.sum((miller @ PLAIN.basis) ** 2, axis=1).max()
    for angle in random.uniform(0, 2 * np.pi, 6):
        barrel, spiral = strength / largest * np.array([np.cos(angle), np.sin(angle)])
        lattice = replace(PLAIN, barrel=float(barrel), spiral=float(spiral))
        np.testing.assert_allclose(lattice.index(lattice.position(miller)), miller, atol=INVERSE)


@pytest.mark.parametrize("lattice", ALL)
@pytest.mark.parametrize("radii", [(0.0, 0.0), (40.0, 0.0), (0.0, 150.0), (60.0, 180.0)])
def test_predicts_every_point_inside_and_only_those(lattice, radii):
    """Against all indices of a wide range: on the image, between the radii, not (0, 0), not beyond the fold."""
    low, high = radii
    miller = every_point(lattice)
    position = lattice.position(miller)
    radius = np.linalg.norm(position - lattice.origin, axis=1)
    length = np.linalg.norm(miller @ lattice.basis, axis=1)
    wanted = (position >= -0.5).all(axis=1) & (position[:, 0] < SHAPE[1] - 0.5) & (position[:, 1] < SHAPE[0] - 0.5)
    wanted &= (radius >= low) & (radius <= (high or np.inf)) & miller.any(axis=1) & (length < fold_by_steps(lattice))
    found = predict(lattice, shape=SHAPE, min_radius=low, max_radius=high)
    assert len(found) == len(set(map(tuple, found.tolist()))) > 5
    assert set(map(tuple, found.tolist())) == set(map(tuple, miller[wanted].tolist()))


def test_fold_against_small_steps():
    """The |s| of the fold with and without a spiral; none for a positive barrel or a strong spiral."""
    for lattice in (FOLDED, FOLDED_AND_TURNED, replace(PLAIN, barrel=-9e-6, spiral=-5.1e-6)):
        assert lattice.fold == pytest.approx(fold_by_steps(lattice), abs=0.02)
    for lattice in (PLAIN, BENT, replace(PLAIN, barrel=-9e-6, spiral=5.3e-6)):
        assert lattice.fold == np.inf == fold_by_steps(lattice)


def fold_by_steps(lattice):
    """The first |s| at which the radius no longer grows, by small steps."""
    s = np.arange(0.0, 3000.0, 0.01)
    radius = s * np.abs(1 + complex(lattice.barrel, lattice.spiral) * s * s)
    falling = np.flatnonzero(np.diff(radius) <= 0)
    return s[falling[0]] if len(falling) else np.inf


def test_a_folded_barrel_puts_no_two_points_on_one_place():
    """Where the plane folds over, every place of the image belongs to one side of the fold."""
    assert fold_by_steps(FOLDED) < 200 < fold_by_steps(BENT)
    for lattice in (FOLDED, FOLDED_AND_TURNED):
        miller = predict(lattice, shape=SHAPE)
        radius = np.linalg.norm(lattice.position(miller) - lattice.origin, axis=1)
        order = np.argsort(np.linalg.norm(miller @ lattice.basis, axis=1), kind="stable")
        assert np.all(np.diff(radius[order]) > -1e-9) and len(miller) > 50


def test_a_transposed_image_has_the_same_points():
    """Exchanging x and y (which turns the spiral round) predicts the same indices."""
    turned = Lattice(BENT.origin[::-1], BENT.a[::-1], BENT.b[::-1], BENT.barrel, -BENT.spiral)
    np.testing.assert_array_equal(predict(BENT, shape=SHAPE), predict(turned, shape=SHAPE[::-1]))
    miller = every_point(BENT, 4)
    np.testing.assert_allclose(turned.position(miller), BENT.position(miller)[:, ::-1], rtol=1e-13)


def test_the_edge_of_a_pixel_decides():
    """A point is on the image from -0.5, included, to size - 0.5, excluded."""
    lattice = Lattice((9.5, 9.5), (10.0, 0.0), (0.0, 10.0))
    assert set(map(tuple, predict(lattice, shape=(20, 20)).tolist())) == {(-1, 0), (0, -1), (-1, -1)}
    assert not len(predict(lattice, shape=(20, 20), max_radius=9.9))


def test_digest_changes_with_every_parameter():
    """Sixteen hexadecimal digits, equal for equal lattices, different when the last bit of any parameter differs."""
    assert BENT.digest() == Lattice(BENT.origin, BENT.a, BENT.b, 3e-7, -2e-7).digest()
    assert len(BENT.digest()) == 16 and int(BENT.digest(), 16) >= 0
    digests = {BENT.digest()}
    for name in ("origin", "a", "b"):
        x, y = getattr(BENT, name)
        digests |= {
            replace(BENT, **{name: pair}).digest() for pair in ((np.nextafter(x, 0), y), (x, np.nextafter(y, 0)))
        }
    digests |= {replace(BENT, **{name: np.nextafter(getattr(BENT, name), 1)}).digest() for name in ("barrel", "spiral")}
    assert len(digests) == 9
    assert replace(PLAIN, a=PLAIN.b, b=PLAIN.a).digest() != PLAIN.digest()


@pytest.mark.parametrize("seed", range(20))
def test_reduced_basis_is_the_shortest(seed):
    """The reduced basis spans the same lattice and its first vector is the shortest there is."""
    lattice = random_lattice(np.random.default_rng(seed))
    reduced = lattice.reduced_basis()
    transformation = reduced @ np.linalg.inv(lattice.basis)
    np.testing.assert_allclose(transformation, np.round(transformation), atol=1e-9)
    assert abs(np.linalg.det(transformation)) == pytest.approx(1)
    u, v = reduced
    assert u @ u <= v @ v and abs(u @ v) <= (u @ u) / 2 * (1 + 1e-12)
    if np.abs(transformation).max() < 15:
        lengths = shortest_vectors(lattice, lambda s: np.linalg.norm(s, axis=1))
        assert lattice.spacing == pytest.approx(lengths[0])


@pytest.mark.parametrize("seed", range(20))
def test_square_spacing_by_brute_force(seed):
    """The least Chebyshev distance of all lattice points from one of them."""
    random = np.random.default_rng(100 + seed)
    lattice = random_lattice(random)
    u, v = lattice.reduced_basis()
    shortest = shortest_vectors(replace(lattice, a=tuple(u), b=tuple(v)), lambda s: np.abs(s).max(axis=1))
    assert lattice.square_spacing == pytest.approx(shortest[0])


def test_gamma():
    """The angle between the basis vectors against the cosine rule, whatever the handedness."""
    assert Lattice((0, 0), (5.0, 0.0), (0.0, -3.0)).gamma == pytest.approx(90)
    assert Lattice((0, 0), (2.0, 0.0), (-1.0, np.sqrt(3.0))).gamma == pytest.approx(120)
    for seed in range(10):
        lattice = random_lattice(np.random.default_rng(seed))
        a, b = lattice.basis
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert lattice.gamma == pytest.approx(np.degrees(np.arccos(cosine)))
        assert replace(lattice, a=lattice.b, b=lattice.a).gamma == pytest.approx(lattice.gamma)


def test_reduced_index_does_not_depend_on_the_basis():
    """The same points have the same neighbours, whatever basis their indices are given in."""
    skew = Lattice((10.0, 20.0), (27.1, 3.2), (-4.3 + 3 * 27.1, 28.9 + 3 * 3.2))
    miller = np.array([[h, k] for h in range(-3, 4) for k in range(-3, 4)])
    index = skew.reduced_index(miller)
    assert index.dtype.kind == "i" and len(np.unique(index, axis=0)) == len(miller)
    np.testing.assert_allclose(index @ skew.reduced_basis(), miller @ skew.basis, atol=1e-9)
