"""The scikit-learn estimator: parameters, pipelines, grid search, and scikit-learn's own checks."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from unlabeled import SelfSupervised
from unlabeled.errors import UserError

QUICK = {"epochs": 1, "batch_size": 8, "progress": False, "logger": "none"}


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x[:120], y[:120] % 2


def test_any_argument_of_the_method_is_one_of_the_estimator():
    model = SelfSupervised("simclr", epochs=3, temperature=0.2)
    assert model.get_params()["temperature"] == 0.2
    other = clone(model).set_params(temperature=0.5, lr=0.1, epochs=4)
    assert (other.options, other.epochs) == ({"temperature": 0.5, "lr": 0.1}, 4)
    assert model.options == {"temperature": 0.2}
    assert "temperature=0.2" in repr(model)
    with pytest.raises(UserError, match="Invalid parameter 'wings'"):
        model.set_params(wings=2)


def test_rows_of_pixels_need_their_shape():
    x, _ = digits()
    model = SelfSupervised(shape=(8, 8), encoder_args={"width": 4}, **QUICK).fit(x)
    assert model.transform(x).shape == (120, 32)
    assert np.array_equal(model.transform(x), model.transform(x.reshape(-1, 8, 8)))
    assert model.get_feature_names_out()[:2].tolist() == ["selfsupervised0", "selfsupervised1"]
    with pytest.raises(UserError, match="give their shape"):
        SelfSupervised(**QUICK).fit(x)
    with pytest.raises(UserError, match="are not images of shape"):
        SelfSupervised(shape=(9, 9), **QUICK).fit(x)
    with pytest.raises(UserError, match="give arrays here"):
        SelfSupervised(**QUICK).fit("photos")


def test_all_images_are_learned_from_whether_there_are_labels_or_not():
    x, y = digits()
    with_labels = SelfSupervised(shape=(8, 8), **QUICK).fit(x, y)
    without = SelfSupervised(shape=(8, 8), **QUICK).fit(x)
    assert with_labels.run_.config["images"] == 120
    assert np.array_equal(with_labels.transform(x), without.transform(x))
    assert (
        SelfSupervised("supervised", shape=(8, 8), **QUICK).fit(x, y).transform(x).shape[1] == 128
    )


def test_it_pickles():
    x, _ = digits()
    model = SelfSupervised(shape=(8, 8), **QUICK).fit(x)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(x), model.transform(x))


class Padded(SelfSupervised):
    """scikit-learn's checks speak in rows of a few numbers; here they become 8×8 images."""

    def _images(self, X):
        if hasattr(X, "tocsr") or np.asarray(X).ndim != 2:
            return super()._images(X)
        X = np.asarray(X)
        if not X.shape[1]:
            raise ValueError(f"0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
        return np.pad(X, ((0, 0), (0, 64 - X.shape[1]))).reshape(-1, 8, 8)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


RESIZED = "images of another size are resized, not refused"
EXCEPTIONS = {
    "check_no_attributes_set_in_init": "the method's own arguments are kept together, in `options`",
    "check_do_not_raise_errors_in_init_or_set_params": "set_params refuses what no method takes",
    "check_n_features_in": RESIZED,
    "check_n_features_in_after_fitting": RESIZED,
    "check_transformer_general": RESIZED,
    "check_dtype_object": "arrays of Python objects are never images",
}
"""The checks that fail, and why they are meant to."""


def test_scikit_learns_own_checks():
    """All pass but the exceptions, each with its reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(Padded(**QUICK), on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert set(failed) == set(EXCEPTIONS), failed
    assert sum(r["status"] == "passed" for r in results) > 30


def test_a_grid_search_tries_temperatures():
    """The example of docs/python.md."""
    x, y = digits()
    pipeline = make_pipeline(
        SelfSupervised("simclr", shape=(8, 8), **QUICK | {"epochs": 2, "lr": 2e-3}),
        LogisticRegression(max_iter=1000),
    )
    search = GridSearchCV(pipeline, {"selfsupervised__temperature": [0.1, 0.5]}, cv=2)
    search.fit(x, y)
    assert search.best_params_["selfsupervised__temperature"] in (0.1, 0.5)
    assert search.best_score_ > 0.5
    assert len(set(search.cv_results_["mean_test_score"])) == 2
