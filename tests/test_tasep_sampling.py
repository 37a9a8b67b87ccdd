"""tasep.sample and tasep.evolve: statistics against exact values, what comes in and goes out, what is refused."""

import numpy as np
import pytest

from hessfast._dispatch import BackendUnavailableError
from hessfast.tasep.log_partition import log_partition_derivatives
from hessfast.tasep.profile import current, density_profile
from hessfast.tasep.sampling import TasepBatch, evolve, pack, sample

PHASES = [(1.0, 1.0), (0.8, 0.6), (0.5, 0.5), (0.3, 0.3), (0.2, 0.7), (0.9, 0.35), (0.05, 0.06)]


def check_profile_and_current(sites, alpha, beta):
    """Density of every site, current over every bond, each within 5 standard errors of the exact value."""
    n, num_sites = sites.shape
    flow = current(alpha, beta, num_sites)
    mean = np.zeros(2 * num_sites + 1)
    for rows in np.array_split(sites.astype(bool), max(1, n // 1000)):
        mean[:num_sites] += rows.sum(0)
        mean[num_sites] += (~rows[:, 0]).sum()
        mean[num_sites + 1 : -1] += (rows[:, :-1] & ~rows[:, 1:]).sum(0)
        mean[-1] += rows[:, -1].sum()
    exact = np.concatenate([density_profile(alpha, beta, num_sites), np.full(num_sites + 1, flow)])
    exact[num_sites] /= alpha
    exact[-1] /= beta
    z = (mean / n - exact) / np.sqrt(exact * (1 - exact) / n + 1e-300)
    assert np.abs(z).max() < 5


@pytest.mark.parametrize(("alpha", "beta"), PHASES)
def test_stationary_profile_and_current(alpha, beta):
    chain = sample(np.full(20_000, alpha), beta, num_sites=64, seed=1)
    check_profile_and_current(chain.occupations(), alpha, beta)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "beta"), PHASES)
def test_stationary_profile_and_current_of_long_chains(alpha, beta):
    chain = sample(np.full(20_000, alpha), beta, num_sites=16384, seed=2)
    check_profile_and_current(chain.occupations(), alpha, beta)


@pytest.mark.parametrize("num_sites", [64, 16384])
@pytest.mark.parametrize(("alpha", "beta"), PHASES[1:])
def test_exponents_have_the_moments_of_the_log_partition(num_sites, alpha, beta):
    n = 20_000 if num_sites == 64 else 2_000
    exact = log_partition_derivatives(alpha, beta, num_sites)
    drawn = sample(np.full(n, alpha), beta, num_sites, seed=3).exponents
    assert np.all(np.abs(drawn.mean(0) - exact.gradient) < 5 * np.sqrt(np.diag(exact.hessian) / n))
    centred = drawn - exact.gradient
    products = centred[:, :, None] * centred[:, None, :]
    assert np.all(np.abs(products.mean(0) - exact.hessian) < 5 * products.std(0) / np.sqrt(n))


def test_the_dynamics_keeps_the_stationary_law():
    chain = sample(np.full(20_000, 0.3), 0.8, num_sites=40, seed=4)
    check_profile_and_current(evolve(chain, 0.3, 0.8, duration=7.5, seed=5).occupations(), 0.3, 0.8)


def test_the_dynamics_reaches_the_stationary_law():
    chain = pack(np.zeros((10_000, 12), int))
    check_profile_and_current(evolve(chain, 0.7, 0.4, duration=300, seed=6).occupations(), 0.7, 0.4)


@pytest.mark.parametrize("num_sites", [1, 63, 64, 65, 200])
def test_words_occupations_and_numbers_agree(num_sites):
    chain = sample([0.2, 0.5, 0.9], 0.6, num_sites)
    sites = chain.occupations()
    assert chain.words.shape == (3, -(-num_sites // 64))
    assert chain.words.dtype == np.uint64
    assert sites.shape == (3, num_sites)
    assert sites.dtype == np.uint8
    for i, j in np.ndindex(sites.shape):
        assert sites[i, j] == int(chain.words[i, j // 64]) >> (j % 64) & 1
    assert chain.num_particles().dtype == np.int64
    np.testing.assert_array_equal(chain.num_particles(), sites.sum(1))
    assert sum(int(word).bit_count() for word in chain.words.ravel()) == sites.sum()  # the padding is empty
    np.testing.assert_array_equal(pack(sites).words, chain.words)


def test_provenance():
    chain = sample([0.2, 0.5], 0.6, 10, seed=8, first_id=4)
    assert (chain.certificate.tolist(), chain.seed, chain.first_id, len(chain)) == (["exact", "exact"], 8, 4, 2)
    later = evolve(chain, 0.5, [0.4, 0.3], 2.0, seed=9)
    assert (later.certificate.tolist(), later.seed, later.first_id) == (["evolved", "evolved"], 9, 4)
    assert later.exponents is None
    np.testing.assert_array_equal(later.exit_rate, [0.4, 0.3])
    assert pack([0, 1]).certificate.tolist() == ["packed"]


def test_a_part_of_a_batch_keeps_its_numbers():
    batch = sample([0.2, 0.5, 0.3], 0.6, 70, seed=8, first_id=4)
    part = batch[1:]
    assert part.certificate.shape == (2,)
    assert (len(part), part.first_id, part.entry_rate.tolist()) == (2, 5, [0.5, 0.3])
    np.testing.assert_array_equal(part.exponents, batch.exponents[1:])
    later = evolve(part, 0.5, 0.4, 3.0, seed=1)
    np.testing.assert_array_equal(later.words, evolve(batch, 0.5, 0.4, 3.0, seed=1)[1:].words)
    assert pack(batch.occupations())[:1].entry_rate is None
    picked = batch[batch.entry_rate != 0.5]
    assert (picked.first_id, picked.entry_rate.tolist()) == (None, [0.2, 0.3])
    np.testing.assert_array_equal(picked.occupations(), batch.occupations()[[0, 2]])
    assert [len(one) for one in batch] == [1, 1, 1]
    with pytest.raises(ValueError, match=r"batch must be of consecutive numbers, .*replace\(batch, first_id=0\)"):
        evolve(picked, 0.5, 0.4, 3.0, seed=1)


def test_a_batch_says_in_a_line_what_it_is():
    expected = "TasepBatch(2 chains of 10 sites, 2 exact, entry_rate 0.2 to 0.5, exit_rate 0.6)"
    assert repr(sample([0.2, 0.5], 0.6, 10)) == expected
    assert repr(pack([0, 1])) == "TasepBatch(1 chains of 2 sites, 1 packed)"


def test_evolve_leaves_its_argument_alone():
    chain = sample([0.2, 0.5], 0.6, 100)
    before = chain.words.copy()
    assert (evolve(chain, 0.9, 0.9, 50.0, seed=0).words != before).any()
    np.testing.assert_array_equal(chain.words, before)
    np.testing.assert_array_equal(evolve(chain, 0.9, 0.9, 0.0, seed=0).words, before)


def test_backends_agree():
    ours, reference = (sample([0.2, 0.5], 0.6, 100, backend=backend) for backend in (None, "reference"))
    np.testing.assert_array_equal(ours.words, reference.words)
    later = [evolve(ours, 0.4, 0.3, 20.0, seed=0, backend=backend).words for backend in (None, "reference")]
    np.testing.assert_array_equal(*later)


def test_tensors_in_tensors_out():
    torch = pytest.importorskip("torch")
    expected = sample([0.2, 0.5], 0.6, 100)
    chain = sample(torch.tensor([0.2, 0.5], dtype=torch.float64), 0.6, 100)
    assert chain.words.dtype == torch.uint64
    np.testing.assert_array_equal(chain.words.numpy(), expected.words)
    np.testing.assert_array_equal(chain.exponents.numpy(), expected.exponents)
    assert chain.occupations().dtype == torch.uint8
    np.testing.assert_array_equal(chain.occupations().numpy(), expected.occupations())
    assert chain.num_particles().dtype == torch.int64
    np.testing.assert_array_equal(chain.num_particles().numpy(), expected.num_particles())
    assert torch.equal(pack(chain.occupations()).words.view(torch.int64), chain.words.view(torch.int64))
    later = evolve(chain, 0.4, 0.3, 20.0, seed=0)
    np.testing.assert_array_equal(later.words.numpy(), evolve(expected, 0.4, 0.3, 20.0, seed=0).words)


CHAIN = TasepBatch(np.zeros((3, 1), np.uint64), 10, np.full(3, "packed"))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sample(0.0, 0.5), ValueError, r"entry_rate must be in \(0, 1\], got 0.0. .* no particle ever enters"),
        (lambda: sample(0.5, 0.0), ValueError, r"exit_rate must be in \(0, 1\], got 0.0. .* no particle ever leaves"),
        (lambda: sample(1.5, 0.5), ValueError, r"entry_rate must be in \(0, 1\], got 1.5"),
        (lambda: sample(0.5, float("nan")), ValueError, "exit_rate must be finite, got nan"),
        (lambda: sample("fast", 0.5), TypeError, "entry_rate must be a number or an array of numbers"),
        (lambda: sample([0.1, 0.2], [0.1, 0.2, 0.3]), ValueError, "must have shapes that broadcast"),
        (lambda: sample(np.full((2, 2), 0.5), 0.5), ValueError, r"must be numbers or have one axis, got shape"),
        (lambda: sample(0.5, 0.5, 0), ValueError, "num_sites must be >= 1"),
        (lambda: sample(0.5, 0.5, 10.0), TypeError, "num_sites must be an integer"),
        (lambda: sample(0.5, 0.5, 10, seed=-1), ValueError, "seed must be >= 0"),
        (lambda: sample(0.5, 0.5, 10, first_id=-1), ValueError, "first_id must be >= 0"),
        (lambda: sample(0.5, 0.5, 10, device="tpu"), ValueError, 'device must be "cpu", "cuda" or "cuda:N"'),
        (lambda: sample(0.5, 0.5, 10, backend="fpga"), ValueError, "backend must be one of"),
        (lambda: evolve(np.zeros(3), 0.5, 0.5, 1.0, 0), TypeError, "batch must be a TasepBatch, got ndarray. Make one"),
        (lambda: evolve(CHAIN, [0.5, 0.5], 0.5, 1.0, 0), ValueError, "one entry for each of 3 configurations, got 2"),
        (lambda: evolve(CHAIN, 0.5, 0.0, 1.0, 0), ValueError, "no particle ever leaves"),
        (lambda: evolve(CHAIN, 0.5, 0.5, -1.0, 0), ValueError, "duration must be >= 0, got -1.0"),
        (lambda: evolve(CHAIN, 0.5, 0.5, float("inf"), 0), ValueError, "duration must be finite"),
        (lambda: evolve(CHAIN, 0.5, 0.5, 1e30, 0), ValueError, r"duration must be <= 2\^62 / .* got 1e\+30"),
        (lambda: evolve(CHAIN, 0.5, 0.5, [1.0, 2.0], 0), TypeError, "duration must be a number"),
        (lambda: pack([[0, 2]]), ValueError, "occupations must be 0 or 1, got"),
        (lambda: pack(np.zeros((1, 2, 3))), ValueError, r"occupations must have shape \[n, num_sites\]"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_missing_gpu_is_named():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BackendUnavailableError, match='use device="cpu"'):
        sample(0.5, 0.5, 10, device="cuda")


def test_many_of_one_point():
    many, few = sample(0.3, 0.4, 100, seed=2, num=5), sample([0.3] * 5, 0.4, 100, seed=2)
    assert len(many) == 5 and (many.words == few.words).all() and (many.exit_rate == 0.4).all()
    with pytest.raises(ValueError, match=r"entry_rate must be a number or have shape \(4,\), got shape \(2,\)"):
        sample([0.3, 0.4], 0.1, 16, num=4)
