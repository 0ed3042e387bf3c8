"""CATALOGUE: every activation's record, once, in the order of the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..activation import Activation
from . import exponential, gaussian, logarithmic, rectified, sigmoidal, weighted

FAMILIES = (rectified, exponential, sigmoidal, weighted, gaussian, logarithmic)

CATALOGUE: Mapping[str, Activation] = MappingProxyType(
    {record.name: record for family in FAMILIES for record in family.RECORDS}
)
