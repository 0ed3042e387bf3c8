"""Accuracy in the same dashboard as speed: a faster kernel that is less right shows both."""

from fastact.bench.sample import measure_error, truth

from .cases import functions, prepare_on


class Accuracy:
    """The largest error on the fixed sample of ``fastact bench``."""

    params = (functions(), ("forward", "derivative"), ("float32",))
    param_names = ("function", "form", "dtype")
    unit = "ULP"
    timeout = 300

    def track_max_ulp(self, name: str, form: str, dtype: str) -> float:
        true = truth(name, form, dtype)
        if true is None:  # functions along an axis have a vjp and no derivative
            return float("nan")
        case = prepare_on(name, form, "fastact", true.x, true.g)
        return measure_error(case, true).max_ulp
