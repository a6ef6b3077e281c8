"""Options as values: compared and hashed by what they say."""

from dataclasses import fields

from ._arrays import is_array


class ComparedWithTypes:
    """
    Compare and hash a frozen dataclass by the values of its fields and by their types.

    The count 1 equals the fraction 1.0 and has its hash: a cache that took one for the other would return another loss.
    An array is compared by identity.
    """

    def _identity(self) -> tuple[object, ...]:
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        return tuple((type(value), id(value) if is_array(value) else value) for value in values)

    def __eq__(self, other: object) -> bool:
        """Compare with options of the same class."""
        if not isinstance(other, ComparedWithTypes) or type(other) is not type(self):
            return False
        return other._identity() == self._identity()

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash(self._identity())
