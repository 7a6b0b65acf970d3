"""The merged claims of one subject, with access to each attribute."""

from collections.abc import Mapping
from datetime import datetime

from app.onespan.merge import EPOCH, NO_CLAIM, Registers, current_value, valid_since


class SubjectClaims:
    """The merged claims of one subject (package, signer or document), with access to each attribute."""

    def __init__(self, attributes: Mapping[str, Registers]) -> None:
        self.attributes = attributes

    def value(self, attribute: str) -> object:
        """Return the current value of an attribute, or None."""
        registers = self.attributes.get(attribute)
        return current_value(registers)[1] if registers else None

    def at(self, attribute: str) -> str:
        """Return the time of the newest claim of an attribute; `EPOCH` if no claim exists."""
        registers = self.attributes.get(attribute)
        return current_value(registers)[0] if registers else EPOCH

    def reported_at(self, attribute: str) -> str:
        """Return the time of the newest event that claims an attribute; `EPOCH` if none does."""
        return self.attributes.get(attribute, {}).get("event", NO_CLAIM)[0]

    @property
    def newest(self) -> str:
        """The time of the newest claim of any attribute."""
        return max(current_value(registers)[0] for registers in self.attributes.values())

    def since(self, attribute: str) -> datetime | None:
        """Return the time since which the current value of an attribute holds."""
        return moment(valid_since(self.attributes.get(attribute, {})))

    def text(self, attribute: str) -> str | None:
        """Return the value of an attribute if the value is a text, else None."""
        value = self.value(attribute)
        return value if isinstance(value, str) else None

    def flag(self, attribute: str) -> bool:
        """Whether the value of an attribute is true."""
        return self.value(attribute) is True

    def named(self, kind: str) -> list[tuple[str, Registers]]:
        """Return the names and claims of one kind of attribute. `attachment passport.pdf` has the kind `attachment`."""
        prefix = f"{kind} "
        return sorted(
            (attribute.removeprefix(prefix), registers)
            for attribute, registers in self.attributes.items()
            if attribute.startswith(prefix)
        )


def moment(text: object) -> datetime | None:
    """Parse a claimed time; None if no time is claimed."""
    return datetime.fromisoformat(text) if isinstance(text, str) and text != EPOCH else None
