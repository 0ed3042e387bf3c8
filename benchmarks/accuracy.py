"""Accuracy in the same dashboard as speed: a faster kernel that is less right shows both."""

from fastact.bench.sample import measure_error, truth

from .cases import functions, prepare_on


def max_ulp(name: str, form: str, dtype: str) -> float:
    """The largest error on the fixed sample of ``fastact bench``."""
    true = truth(name, form, dtype)
    assert true is not None
    return measure_error(prepare_on(name, form, "fastact", true.x, true.g), true).max_ulp


class Accuracy:
    """Of elementwise functions and their derivatives."""

    params = (functions(rows=False), ("forward", "derivative"), ("float32",))
    param_names = ("function", "form", "dtype")
    unit = "ULP"
    timeout = 300

    def track_max_ulp(self, name: str, form: str, dtype: str) -> float:
        return max_ulp(name, form, dtype)

    track_max_ulp.pretty_name = "Largest error: elementwise functions"


class AccuracyOfRows:
    """Of functions along an axis, which have no derivative by one number."""

    params = (functions(rows=True), ("float32",))
    param_names = ("function", "dtype")
    unit = "ULP"
    timeout = 300

    def track_max_ulp(self, name: str, dtype: str) -> float:
        return max_ulp(name, "forward", dtype)

    track_max_ulp.pretty_name = "Largest error: functions along an axis"
