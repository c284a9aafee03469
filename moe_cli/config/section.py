"""What every group of settings is: frozen, and strict about names, bounds and the type of a number."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LONGEST_WAIT = 1e6  # seconds; sockets and threads cannot wait much longer
SMALLEST_TEMPERATURE = 1e-6  # below it logits divided by it are no finite numbers


def _greedy_or_finite(temperature: float) -> float:
    """Refuse a temperature that no logit can be divided by."""
    if 0 < temperature < SMALLEST_TEMPERATURE:
        raise ValueError(f"it is 0, which is greedy, or at least {SMALLEST_TEMPERATURE:g}")
    return temperature


Count = Annotated[int, Field(ge=1, lt=2**31)]
Threads = Annotated[int, Field(ge=1, le=1024)]  # a system may refuse more, and with them the process
Seconds = Annotated[float, Field(gt=0.0, le=LONGEST_WAIT)]
Temperature = Annotated[float, Field(ge=0.0, le=100.0), AfterValidator(_greedy_or_finite)]


class Section(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_true(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` where a number is meant, which would be 1."""
        kind = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and kind is not bool and kind != bool | None:
            raise ValueError("`true` and `false` are no value of this setting")
        return value
