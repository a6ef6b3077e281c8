"""A fraction of a count, exactly."""

from fractions import Fraction

from ._typing import Array

# Two digits of 10 bits: the products below then fit a 32-bit integer.
_DIGIT = 2**10
SMALLEST_FRACTION = 1 / _DIGIT**2


def as_ratio(fraction: float) -> tuple[int, int]:
    """Give the ratio that a fraction is taken for: the nearest one with a denominator up to 2**20."""
    return Fraction(fraction).limit_denominator(_DIGIT**2).as_integer_ratio()


def floor_of_product(n: Array, fraction: float) -> Array:
    """
    Compute ``floor(n * fraction)`` exactly, in 32-bit integers if that is what the library has.

    A float product would depend on the library: 0.7 * 10 is 7 in float64 and 6.9999998 in float32.
    """
    a, b = as_ratio(fraction)
    whole, rest = n // b, n % b
    high, low = rest // _DIGIT, rest % _DIGIT
    upper = high * a
    return whole * a + (upper // b) * _DIGIT + ((upper % b) * _DIGIT + low * a) // b
