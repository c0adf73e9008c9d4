"""What all settings have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from firstlib.settings.limits import LARGEST_COUNT

Count = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]


class Part(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _a_number_is_not_a_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read `true` as 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("Input should be a value of another kind")
        return value
