"""Arithmetic that Triton's language lacks, accurate to a few units in the last place.

float32 and float64 unless said otherwise. Rational approximations follow Cephes (Moshier 1984).
"""

import triton
import triton.language as tl


@triton.jit
def nan_maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def nan_minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def swap_pairs(x):
    """x with neighbours along the last dimension exchanged."""
    if len(x.shape) == 1:
        even, odd = tl.split(tl.reshape(x, [x.shape[0] // 2, 2]))
    else:
        even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1] // 2, 2]))
    return tl.reshape(tl.join(odd, even), x.shape)


@triton.jit
def online_softmax(peak, total, x):
    """A running maximum, and the sum of exp(x - maximum), with one more x in each lane."""
    raised = tl.maximum(peak, x)
    kept = tl.where(peak == raised, total, total * tl.exp(peak - raised))
    term = tl.where(x == float("-inf"), 0.0, tl.exp(x - raised))
    return raised, kept + term


@triton.jit
def sign(x):
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))


@triton.jit
def round_half_even(x):
    if x.dtype == tl.float64:
        whole: tl.constexpr = 4503599627370496.0  # 2**52: no fractions from here on
    else:
        whole: tl.constexpr = 8388608.0  # 2**23
    magnitude = tl.abs(x)
    rounded = (magnitude + whole) - whole
    rounded = tl.where(magnitude < whole, rounded, magnitude)
    return tl.where(x < 0, -1.0 * rounded, rounded)


@triton.jit
def divide(a, b):
    """a / b, rounded as IEEE 754 says."""
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def square_root(x):
    """The square root, rounded as IEEE 754 says."""
    if x.dtype == tl.float32:
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@triton.jit
def power_of_two(n):
    """2.0 ** n in float32, for -127 < n < 128."""
    return ((n + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def exp(x):
    """e ** x as CUDA's expf; 2 ** (x / ln 2) alone is off by what rounding that quotient loses."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        whole = tl.clamp(tl.floor(x * 1.4426950408889634 + 0.5), -150.0, 129.0)
        rest = tl.fma(x, 1.4426950216293335, -1.0 * whole)  # 1 / ln 2 in two parts
        found = tl.exp2(tl.fma(x, 1.925963033500e-8, rest))
        half = whole.to(tl.int32) >> 1  # 2 ** 128 alone is beyond the range
        return found * power_of_two(half) * power_of_two(whole.to(tl.int32) - half)


@triton.jit
def expm1(x):
    if x.dtype == tl.float64:
        tail = 1 / 6227020800 + x * (1 / 87178291200 + x / 1307674368000)
        tail = 1 / 3628800 + x * (1 / 39916800 + x * (1 / 479001600 + x * tail))
        tail = 1 / 40320 + x * (1 / 362880 + x * tail)
    else:
        tail = 1 / 40320 + x / 362880
    series = 1 / 120 + x * (1 / 720 + x * (1 / 5040 + x * tail))
    series = x * (1 / 6 + x * (1 / 24 + x * series))
    near = x + x * x * (0.5 + series)
    return tl.where(tl.abs(x) < 0.5, near, tl.exp(x) - 1.0)


@triton.jit
def log1p(x):
    """log(1 + x), the rounding of 1 + x made good by x / (rounded - 1)."""
    rounded = 1.0 + x
    difference = rounded - 1.0
    found = tl.log(rounded) * (x / tl.where(difference == 0.0, 1.0, difference))
    found = tl.where(difference == 0.0, x, found)
    return tl.where(rounded == float("inf"), rounded, found)


@triton.jit
def tanh(x):
    z = x * x
    if x.dtype == tl.float64:
        over = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z
        under = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z
        near = (over - 1.61468768441708447952e3) / (under + 4.84406305325125486048e3)
    else:
        near = (-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2
        near = (near * z + 1.33314422036e-1) * z - 3.33332819422e-1
    magnitude = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp(2.0 * magnitude) + 1.0)
    return tl.where(magnitude < 0.625, x + x * z * near, tl.where(x < 0, -1.0 * far, far))


@triton.jit
def atan_of_ratio(x):
    """The arc tangent for 0 <= x <= 1."""
    far = x > 0.4142135623730950
    t = tl.where(far, (x - 1.0) / (x + 1.0), x)
    z = t * t
    if x.dtype == tl.float64:
        over = (-8.750608600031904122785e-1 * z - 1.615753718733365076637e1) * z
        over = (over - 7.500855792314704667340e1) * z - 1.228866684490136173410e2
        over = over * z - 6.485021904942025371773e1
        under = ((z + 2.485846490142306297962e1) * z + 1.650270098316988542046e2) * z
        under = (under + 4.328810604912902668951e2) * z + 4.853903996359136964868e2
        series = over / (under * z + 1.945506571482613964425e2)
    else:
        series = (8.05374449538e-2 * z - 1.38776856032e-1) * z
        series = (series + 1.99777106478e-1) * z - 3.33329491539e-1
    angle = t + t * z * series
    return tl.where(far, angle + 0.7853981633974483, angle)


@triton.jit
def is_negative(x):
    """The sign bit: of zeros and NaN too."""
    if x.dtype == tl.float64:
        return x.to(tl.int64, bitcast=True) < 0
    else:
        return x.to(tl.int32, bitcast=True) < 0


@triton.jit
def atan2(y, x):
    a = tl.abs(y)
    b = tl.abs(x)
    large = tl.maximum(a, b)
    small = tl.minimum(a, b)
    ratio = small / tl.where(large == 0.0, 1.0, large)
    angle = atan_of_ratio(tl.where((small == large) & (large != 0.0), 1.0, ratio))
    angle = tl.where(a > b, 1.5707963267948966 - angle, angle)
    angle = tl.where(is_negative(x), 3.141592653589793 - angle, angle)
    angle = tl.where(is_negative(y), -1.0 * angle, angle)
    return tl.where((x != x) | (y != y), x + y, angle)


@triton.jit
def float_remainder_of_trunc(a, b):
    """C's fmod in float64, a - trunc(a / b) * b; exact unless a / b is beyond 2**53."""
    x = tl.abs(a.to(tl.float64))
    y = tl.abs(b.to(tl.float64))
    left = tl.fma(-1.0 * tl.floor(x / y), y, x)
    left = tl.where(left < 0.0, left + y, left)  # the quotient was rounded up to an integer
    left = tl.where((y == float("inf")) & (x != y), x, left)
    return tl.where(a < 0, -1.0 * left, left)


@triton.jit
def float_remainder(a, b):
    """Python's a % b."""
    left = float_remainder_of_trunc(a, b)
    y = b.to(tl.float64)
    left = tl.where((left != 0.0) & ((left < 0.0) != (y < 0.0)), left + y, left)
    return left.to(a.dtype)


@triton.jit
def float_floor_divide(a, b):
    """floor(a / b) as if a / b were exact."""
    y = b.to(tl.float64)
    left = float_remainder_of_trunc(a, b)
    quotient = (a.to(tl.float64) - left) / y
    quotient = tl.where((left != 0.0) & ((left < 0.0) != (y < 0.0)), quotient - 1.0, quotient)
    whole = tl.floor(quotient)
    whole = tl.where(quotient - whole > 0.5, whole + 1.0, whole)
    return tl.where(b == 0.0, a / b, whole.to(a.dtype))


@triton.jit
def int_floor_divide(a, b):
    quotient = a // b
    left = a - quotient * b
    return tl.where((left != 0) & ((left < 0) != (b < 0)), quotient - 1, quotient)


@triton.jit
def int_remainder(a, b):
    """Python's a % b."""
    left = a % b
    return tl.where((left != 0) & ((left < 0) != (b < 0)), left + b, left)


@triton.jit
def float_power(a, b):
    """a ** b, in float64; C's rules for zeros, infinities and negative bases."""
    x = a.to(tl.float64)
    y = b.to(tl.float64)
    size = tl.exp2(y * tl.log2(tl.abs(x)))
    even = tl.floor(y * 0.5) * 2.0 == y
    whole = tl.floor(y) == y
    finite_negative = (x < 0.0) & (x != float("-inf"))
    found = tl.where(is_negative(x) & whole & (even == 0), -1.0 * size, size)
    found = tl.where(finite_negative & (whole == 0), float("nan"), found)
    unit = (x == -1.0) & (tl.abs(y) == float("inf"))
    return tl.where((y == 0.0) | (x == 1.0) | unit, 1.0, found).to(a.dtype)


@triton.jit
def int_power(a, b):
    """a ** b modulo 2**bits; a negative exponent leaves 1 and -1 only."""
    found = a * 0 + 1
    base = a
    exponent = b
    for _ in range(63):
        found = tl.where((exponent & 1) != 0, found * base, found)
        base = base * base
        exponent = exponent >> 1
    odd = (b & 1) != 0
    unit = tl.where(a == 1, 1, tl.where(a == -1, tl.where(odd, -1, 1), 0)).to(a.dtype)
    return tl.where(b < 0, unit, found)


@triton.jit
def shift_left(a, b, bits: tl.constexpr):
    beyond = (b < 0) | (b >= bits)
    return tl.where(beyond, a * 0, a << tl.where(beyond, b * 0, b))


@triton.jit
def shift_right(a, b, most: tl.constexpr):
    """The arithmetic shift; `most` is the largest amount that means anything."""
    beyond = (b < 0) | (b > most)
    return a >> tl.where(beyond, b * 0 + most, b)


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def gelu_tanh(x):
    """0.5 x (1 + tanh(u)) = x sigmoid(2 u)."""
    u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-2.0 * u))


@triton.jit
def silu(x):
    return x / (1.0 + tl.exp(-1.0 * x))


@triton.jit
def softplus(x, beta: tl.constexpr, threshold: tl.constexpr):
    scaled = x * beta
    return tl.where(scaled > threshold, x, log1p(tl.exp(scaled)) / beta)
