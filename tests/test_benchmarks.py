"""The benchmarks run and print their tables; the program they compare with has right derivatives and a right bound."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
LIBRARY = BENCHMARKS.parent / "workflow/scripts"
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@pytest.fixture
def modules(monkeypatch):
    """The modules `population` and `rival` of the benchmarks."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import population
    import rival

    return population, rival


def tables(script, often="--runs"):
    """The tables that a quick run prints, each as a header and its rows of cells; `often`: its option for one run."""
    command = [sys.executable, BENCHMARKS / script, "--quick", often, "1"]
    environment = os.environ | {"PYTHONPATH": str(LIBRARY)}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout
    found = re.findall(r"^(\|.*\|)\n\|[-|]+\|\n((?:\|.*\|\n)+)", printed, re.MULTILINE)
    return [(cells(header), [cells(row) for row in rows.splitlines()]) for header, rows in found]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def numbers(rows, first):
    """All numbers of the cells from column `first` on."""
    return np.array([[float(NUMBER.search(cell)[0]) for cell in row[first:] if cell != "-"] for row in rows])


def test_bench_fit_prints_rates_and_errors():
    speed, (header, rows) = tables("bench_fit.py")
    assert [row[0] for row in speed[1]] == ["strong", "mixed"]
    assert np.all(numbers(speed[1], 1)[:, [0, 2, 3, 4, 5]] > 0)
    bins = ["3-6", "6-15", "15-40", ">40"]
    assert {len(row) for row in rows} == {len(header)}
    assert [row[header.index("I/sigma")] for row in rows] == bins * 7


def test_bench_job_prints_every_part():
    (header, (row,)), (_, (whole,)) = tables("bench_job.py")
    seconds = dict(zip(header, row, strict=True))
    parts = [float(seconds[name]) for name in ("start-up", "imports", "read", "fit", "refine", "write", "rest")]
    assert all(part >= 0 for part in parts) and min(float(seconds[name]) for name in ("imports", "fit")) > 0
    assert sum(parts) == pytest.approx(float(seconds["total"]), abs=0.04)  # each is rounded to 0.01 s
    assert float(seconds["peak MB"]) > 0 and np.all(numbers([whole], 1) > 0)


def test_bench_integrate_prints_errors_of_every_intensity():
    (names, (overview,)), (_, bound), (_, relative), (_, pulls) = tables("bench_integrate.py", often="--stills")
    figures = dict(zip(names, overview, strict=True))
    assert int(figures["spots"]) > 50 and figures["lost, no profile"] == "0, 0"
    methods = ["box", "profile", "best"]
    assert [row[1] for row in bound] == ["spots", *methods] and [row[1] for row in relative[1:]] == ["spots", *methods]
    assert np.all(numbers([row[-1:] for row in bound], 0) > 0)
    assert [row[1:3] for row in pulls] == [[method, clarity] for method in methods for clarity in ("> 10", "<= 10")]


def test_bench_workflow_prints_what_jobs_cost():
    (names, (first,)), (again, empty), (parts, steps), (_, packages) = tables("bench_workflow.py")
    run, jobs = dict(zip(names, first, strict=True)), 4
    assert run["first run of"] == "2" and [row[0] for row in empty] == ["2", "4"]
    more = (float(run["CPU s"]) - float(run["one process s"])) / jobs
    assert float(run["more s/job"]) == pytest.approx(more, abs=0.1 / jobs)  # both are rounded to 0.1 s
    assert float(run["job's process s"]) > 0 and float(run["peak MB"]) > 0 and float(run["of allowed"]) > 0
    assert np.all(numbers([[row[again.index("CPU s")], row[again.index("peak MB")]] for row in empty], 0) > 0)
    assert parts[1:] == ["interpreter", "imports", "work", "together"]
    for row in numbers(steps, 1):
        assert row[:3].sum() == pytest.approx(row[3], abs=0.002)  # each is rounded to 0.001 s
    assert {"ed2d", "numpy", "gemmi"} <= {row[0] for row in packages}


def test_the_best_fit_of_a_still_is_unbiased_with_right_errors(modules):
    import patterns

    error = []
    for seed in (1, 2):
        truth, boxes = patterns.clean_spots(patterns.draw(patterns.TINY, seed))
        volume, variance = patterns.best_fit(boxes)
        np.testing.assert_allclose(boxes.volume, truth["vol_counts"], rtol=1e-12)
        error.append((volume - boxes.volume) / np.sqrt(variance))
    pull, allowed = np.hstack(error), 4.0
    assert abs(pull.mean()) < allowed / np.sqrt(len(pull))
    assert abs(pull.std() - 1) < allowed / np.sqrt(2 * len(pull))


def test_verdicts_name_what_is_wrong_with_a_lattice(modules):
    """Any basis of the true lattice is right; sublattices, finer ones, wrong origins and errors have their names."""
    from verdicts import displaced, judged

    from ed2d.lattice import Lattice

    origin, a, b = np.array([310.2, 290.7]), np.array([31.0, 4.0]), np.array([-9.0, 42.0])
    true = Lattice((310.2, 290.7), tuple(a), tuple(b), 2e-8, -1e-8)

    def verdict(origin, a, b, others=()):
        found = judged(Lattice(*(tuple(map(float, vector)) for vector in (origin, a, b)), 2e-8, -1e-8), true, others)
        return found.kind, found.fault

    for basis in ((a, b), (b, a), (-a, b), (a + b, b), (2 * a + b, a + b)):
        assert verdict(origin + 0.5, *basis) == ("right", "")
    assert judged(None, true).kind == "none"
    assert verdict(origin, 2 * a, b) == ("wrong", "sublattice of index 2")
    assert verdict(origin, a + b, a - 2 * b) == ("wrong", "sublattice of index 3")
    assert verdict(origin, a, b / 2) == ("wrong", "too fine a lattice, of index 1/2")
    assert verdict(origin, (a + b) / 3, b) == ("wrong", "too fine a lattice, of index 1/3")
    assert verdict(origin + a - 2 * b, a, b) == ("wrong", "origin off by (1, -2), 93.8 px")
    assert verdict(origin + 0.5 * a, a, b) == ("wrong", "origin off by (0.50, 0.00), 15.6 px")
    assert verdict(origin, 1.01 * a, b) == ("wrong", "vectors off by 1.0 %")
    assert verdict(origin, 1.002 * a, 0.998 * b) == ("right", "")
    turned = a @ [[0.94, 0.34], [-0.34, 0.94]], b @ [[0.94, 0.34], [-0.34, 0.94]]
    assert verdict(origin, *turned) == ("wrong", "another lattice")
    second = Lattice(true.origin, *map(tuple, turned))
    assert verdict(origin, *turned, [second]) == ("wrong", "the second lattice")
    moved = Lattice((310.2 + 0.3, 290.7 - 0.4), tuple(a + b), tuple(b), 2e-8, -1e-8)
    assert displaced(moved, true, np.array([[3, -5], [7, 2], [-6, 6]])) == pytest.approx(0.5)


def test_stills_of_the_search_keep_their_limits(modules):
    """A case alone is the one of the set; what a human needs is there, and the numbers are those of the truth."""
    import indexable
    import stills_search

    cases = list(stills_search.stills(24))
    assert cases[17] == stills_search.still(17) != stills_search.still(17, stills_search.CALIBRATION)
    assert {tag for case in cases for tag in case.tags} >= set(stills_search.FEATURES)
    for case in cases:
        truth = stills_search.draw_spots(case.simulation, seed=case.seed)
        numbers = indexable.limits(case.simulation, truth)
        assert numbers["clear"] >= indexable.CLEAR_SPOTS and numbers["outside"] >= indexable.OUTSIDE
        assert "direct beam" in case.tags or numbers["pairs"] >= indexable.CLEAR_PAIRS
        assert 10 <= case.simulation.lattice.spacing <= 150
    made, again = stills_search.make(cases[17]), stills_search.make(cases[17])
    assert np.array_equal(made.image, again.image) and made.image.shape == cases[17].simulation.shape
    assert made.lattice == cases[17].simulation.lattice and made.info["spots"] == len(made.truth)


def test_a_sublattice_is_seen_where_few_spots_areoutside_of(modules):
    """Of the points of a lattice a half lies in no class of index 2; of those with even h, or odd h, none."""
    from indexable import outside_of

    points = np.array([(h, k) for h in range(-6, 6) for k in range(-6, 6)])
    assert outside_of(points, 2) == 72 and outside_of(points, 3) == 96
    for parity in (0, 1):
        assert outside_of(points[points[:, 0] % 2 == parity], 2) == 0
        assert outside_of(points[(points.sum(axis=1)) % 2 == parity], 2) == 0


def test_bench_search_prints_right_and_wrong(modules):
    pytest.importorskip("ed2d.latticesearch")
    (header, rows), reliability, *failures = tables("bench_search.py", often="--stills")
    figures = dict(zip(header, rows[0], strict=True))
    counts = [int(figures[name].split()[0]) for name in ("right", "wrong", "none")]
    assert rows[0][0] == "all" and sum(counts) == int(figures["stills"]) == 2
    assert sum(int(row[1]) for row in reliability[1]) == 2
    assert sum(len(table[1]) for table in failures) == sum(counts[1:])


def test_both_derivatives_are_those_of_the_model(modules):
    population, rival = modules
    truth, step = population.draw(4, peaks=(10.0, 100.0), seed=1).truth, 1e-5
    shifted = [population.model(truth + step * unit) - population.model(truth - step * unit) for unit in np.eye(9)]
    analytic = population.jacobian(truth)
    np.testing.assert_allclose(analytic, np.stack(shifted, axis=-1) / (2 * step), atol=1e-6)
    pixels = population.X, population.Y
    for row, parameters in enumerate(truth):
        np.testing.assert_allclose(rival._jacobian(pixels, *parameters), analytic[row], atol=1e-10)
        np.testing.assert_allclose(rival._model(pixels, *parameters), population.model(truth)[row], atol=1e-10)


def test_the_bound_is_the_known_one_of_a_lone_gaussian(modules):
    """With much background b the variance of the centre is 2 b / (pi A^2) along each axis, for a round spot."""
    population, _ = modules
    spot = np.array([[0.01, 0.0, 0.0, 2.0, 2.0 - 1e-6, 0.3, 1e4, 0.0, 0.0]])
    expected = population.model(spot)
    drawn = population.Population(population.Camera(), spot, expected, expected, np.ones(expected.shape, bool))
    centre, _ = population.bound(drawn)
    known = np.sqrt(2 * 1e4 / np.pi) / 0.01
    assert centre[0, 0] == pytest.approx(centre[0, 1], rel=1e-3)
    assert known < centre[0, 0] < 1.1 * known  # the slope of the background takes a little


def test_the_rival_finds_a_strong_spot(modules):
    population, rival = modules
    drawn = population.draw(20, peaks=(2000.0, 3000.0), seed=1)
    found = np.array([rival.fit_one(*box) for box in zip(drawn.counts, drawn.usable, strict=True)])
    centre, _ = population.bound(drawn)
    assert np.all(np.abs(found[:, 1:3] - drawn.truth[:, 1:3]) < 6 * centre)
