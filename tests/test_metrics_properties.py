"""All metrics against scikit-learn's, or against loops, on cases that are drawn."""

from __future__ import annotations

import json
import warnings
from math import nan

import numpy as np
import pytest

import minicnn as mc
from minicnn import metrics

hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies


@pytest.fixture(scope="module")
def oracle():
    return pytest.importorskip("sklearn.metrics", exc_type=ImportError)


def drawn(count):
    """Return a decorator: so many cases, the same ones each time."""
    quiet = settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=count,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    return lambda test: quiet(given(case=CASES)(test))


@st.composite
def cases(draw):
    """Labels (N,) and scores (N, K) in which classes may be absent, or never be called."""
    K, N = draw(st.integers(2, 12)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    there = draw(st.lists(st.integers(0, K - 1), min_size=1, max_size=K, unique=True))
    called = draw(st.lists(st.integers(0, K - 1), min_size=1, max_size=K, unique=True))
    labels = rng.choice(there, N)
    scores = draw(st.sampled_from([0.1, 1.0, 10.0])) * rng.standard_normal((N, K))
    scores += draw(st.sampled_from([0.0, 3.0])) * np.eye(K)[labels]
    silent = np.setdiff1d(np.arange(K), called)
    scores[:, silent] -= 50 * draw(st.booleans())
    return labels, scores


CASES = cases()


def of(labels, scores):
    """An evaluation of answers, in two batches."""
    right = float((scores.argmax(axis=1) == labels).mean())
    return mc.Evaluation(0.5, right, labels, [scores[:1], scores[1:]])


@drawn(60)
def test_scores_by_class_are_those_of_scikit_learn(oracle, case):
    labels, scores = case
    K, found = scores.shape[1], of(labels, scores)
    kinds = {"labels": range(K)}
    expected = oracle.confusion_matrix(labels, found.predicted, **kinds)
    np.testing.assert_array_equal(found.confusion, expected)
    for zero in (0.0, 1.0, nan):
        ours = metrics.precision_recall_f1(found.confusion, zero)
        how = {**kinds, "zero_division": zero}
        theirs = oracle.precision_recall_fscore_support(labels, found.predicted, **how)
        for a, b in zip((ours.precision, ours.recall, ours.f1, ours.support), theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        for kind in ("macro", "micro", "weighted"):
            *theirs, _ = oracle.precision_recall_fscore_support(
                labels, found.predicted, average=kind, **how
            )
            np.testing.assert_allclose(list(ours.average(kind).values()), theirs, rtol=1e-12)
        if zero == 0:
            np.testing.assert_array_equal(found.scores.f1, ours.f1)
    assert found["accuracy"] == oracle.accuracy_score(labels, found.predicted)


@drawn(100)
def test_zero_by_zero_is_said_where_scikit_learn_warns_of_it(oracle, case):
    from sklearn.exceptions import UndefinedMetricWarning

    labels, scores = case
    K, found = scores.shape[1], of(labels, scores)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UndefinedMetricWarning)
        oracle.precision_recall_fscore_support(labels, found.predicted, labels=range(K))
    warned = {name for name in ("Precision", "Recall") if name in " ".join(map(str, said))}
    undefined = found.scores.undefined
    assert bool(undefined.precision) == ("Precision" in warned)
    assert bool(undefined.recall) == ("Recall" in warned)
    assert list(undefined.precision) == [i for i in range(K) if i not in found.predicted]
    assert list(undefined.recall) == [i for i in range(K) if i not in labels]
    assert set(undefined.f1) == set(undefined.precision) & set(undefined.recall)


@drawn(100)
def test_top_k_is_that_of_scikit_learn(oracle, case):
    labels, scores = case
    K = scores.shape[1]
    for k in range(1, K + 1):
        ours = metrics.top_k_accuracy(labels, scores, k)
        if K == 2 and k == 1:  # there it wants the score of class 1
            margin = scores[:, 1] - scores[:, 0]
            how = {"y_score": np.where(margin > 0, 1.0, -1.0), "k": 1, "labels": [0, 1]}
        elif K == 2 or k == K:  # all are among them, and it warns
            assert ours == 1.0
            continue
        else:
            how = {"y_score": scores, "k": k, "labels": range(K)}
        assert ours == oracle.top_k_accuracy_score(labels, **how)
        if k == 5:
            assert of(labels, scores)["top5"] == ours
    assert K > 5 or of(labels, scores)["top5"] == 1.0


def bins_by_hand(labels, probabilities, M):
    """Guo et al., equations 2 and 3 and the text between them, as they stand there."""
    table = []
    for m in range(1, M + 1):
        low, high = (np.linspace(0, 1, M + 1)[i] for i in (m - 1, m))
        inside = [
            (max(p), int(np.argmax(p)) == label)
            for p, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if low < max(p) <= high
        ]
        n = len(inside)
        table.append(
            (n, sum(c for c, _ in inside) / max(n, 1), sum(r for _, r in inside) / max(n, 1))
        )
    return table


@drawn(60)
def test_calibration_is_that_of_the_paper(case):
    labels, scores = case
    p = of(labels, scores).probabilities
    for M in (1, 2, 10, 15):
        found, table = metrics.calibration(labels, p, M), bins_by_hand(labels, p, M)
        gaps = [(n / len(labels), abs(right - sure)) for n, sure, right in table]
        assert found.ece == pytest.approx(sum(share * gap for share, gap in gaps), abs=1e-12)
        assert found.mce == pytest.approx(max(gap for share, gap in gaps if share), abs=1e-12)
        assert found.count.tolist() == [n for n, _, _ in table]
        for m, (n, sure, right) in enumerate(table):
            expected = [sure, right] if n else [nan, nan]
            np.testing.assert_allclose([found.confidence[m], found.accuracy[m]], expected)
        assert found.mean_confidence == pytest.approx(p.max(axis=1).mean())


@drawn(60)
def test_most_confused_are_the_largest_off_the_diagonal(case):
    labels, scores = case
    found = of(labels, scores)
    pairs = [(i, j) for i, j in zip(labels, found.predicted, strict=True) if i != j]
    counted = {pair: pairs.count(pair) for pair in pairs}
    everything = found.confused(1000)
    assert {(i, j): n for i, j, n in everything} == counted
    assert everything == sorted(everything, key=lambda each: (-each[2], each[0], each[1]))
    assert found.confused(2) == everything[:2]


@drawn(40)
def test_evaluation_is_strict_json_and_text(case):
    found = of(*case)
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said == found.as_dict()
    assert said["top5"] == found["top5"] and said["confusion"] == found.confusion.tolist()
    assert [each["f1"] for each in said["per_class"]] == found.scores.f1.tolist()
    assert said["calibration"]["ece"] == found.calibration.ece
    assert max(map(len, str(found).splitlines())) <= 80
