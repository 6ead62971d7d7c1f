"""An expression, read to its last sign or not at all: the numbers and formulas inside of `mathematics.py`'s answers."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from plaudit.scoring.rules.lexing import FUNCTIONS, Token, Unreadable

MAX_DIGITS = 5000
"""Of a power or factorial: 9^{9^9} is not worked out."""
MAX_DEPTH = 60


def symbolic() -> Any:
    """sympy, loaded when something is read: it takes a second."""
    import sympy

    return sympy


class Parser:
    """Tokens → one sympy expression. `plus_minus` is the sign that ± stands for."""

    def __init__(self, tokens: Sequence[Token], plus_minus: int = 1):
        self.tokens, self.at, self.plus_minus, self.depth = list(tokens), 0, plus_minus, 0

    def whole(self) -> Any:
        """The expression that all of the tokens are. Raises Unreadable where something is left over."""
        value = self._sum()
        if self.at < len(self.tokens):
            raise Unreadable(f"{self.tokens[self.at].text!r} is left over")
        return value

    def _peek(self, ahead: int = 0) -> Token | None:
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def _next(self) -> Token:
        token = self._peek()
        if token is None:
            raise Unreadable("it ends too early")
        self.at += 1
        return token

    def _is(self, *texts: str) -> bool:
        token = self._peek()
        return token is not None and token.kind in ("sign", "command") and token.text in texts

    def _expect(self, text: str) -> None:
        if self._next().text != text:
            raise Unreadable(f"{text!r} is missing")

    def _sum(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("is nested too deeply")
        value = self._product()
        while self._is("+", "-", "pm", "mp"):
            sign = self._next().text
            value = value + self._sign(sign) * self._product()
        self.depth -= 1
        return value

    def _sign(self, text: str) -> int:
        return {"+": 1, "-": -1, "pm": self.plus_minus, "mp": -self.plus_minus}[text]

    def _product(self) -> Any:
        if self._is("+", "-", "pm", "mp"):
            sign = self._next().text
            return self._sign(sign) * self._product()
        value = self._power()
        while (token := self._peek()) is not None:
            if self._is("*", "times"):
                self._next()
                value = value * self._signed_power()
            elif self._is("/"):
                self._next()
                value = _divided(value, self._signed_power())
            elif token.kind == "number" or not self._starts():
                break
            else:
                value = value * self._power()
        return value

    def _signed_power(self) -> Any:
        if self._is("-", "+"):
            return self._sign(self._next().text) * self._power()
        return self._power()

    def _starts(self) -> bool:
        """Whether the next token may begin a factor that is only put beside the one before."""
        token = self._peek()
        if token is None:
            return False
        if token.kind == "symbol":
            return True
        if token.kind == "command":
            return token.text not in ("cup", "cap", "in", "and", "or", "le", "ge", "ne", "pm", "mp", "times")
        return token.text in ("(", "{", "[")

    def _power(self) -> Any:
        value = self._atom()
        while True:
            if self._is("^"):
                self._next()
                value = _raised(value, self._exponent())
            elif self._is("!"):
                self._next()
                value = _factorial(value)
            elif self._is("°"):
                self._next()
                value = value * symbolic().pi / 180
            else:
                return value

    def _exponent(self) -> Any:
        """Powers of powers count from the right: 2^3^2 is 2^9, and 2^-1^2 is 2^(−1)."""
        if self._is("-", "+"):
            return self._sign(self._next().text) * self._exponent()
        value = self._argument()
        if self._is("^"):
            self._next()
            value = _raised(value, self._exponent())
        return value

    def _argument(self, *, one_digit: bool = False) -> Any:
        r"""What ^, _, \frac or \sqrt take: a group, a sign or a number; \frac12 takes a digit for each."""
        token = self._peek()
        if token is not None and token.kind == "sign" and token.text == "{":
            return self._group("}")
        if self._is("-", "+"):
            return self._sign(self._next().text) * self._argument()
        if token is None or token.kind != "number" or token.value is None:
            return self._atom()
        value = token.value
        if one_digit and token.text.isdigit() and len(token.text) > 1:
            rest = token.text[1:]
            self.tokens[self.at] = Token("number", rest, Fraction(int(rest)))
            value = Fraction(int(token.text[0]))
        else:
            self.at += 1
        return symbolic().Rational(value.numerator, value.denominator)

    def _group(self, closing: str) -> Any:
        self._next()
        value = self._sum()
        self._expect(closing)
        return value

    def _atom(self) -> Any:
        token = self._peek()
        if token is None:
            raise Unreadable("it ends too early")
        if token.kind == "number":
            return self._number()
        if token.kind == "sign" and token.text in ("(", "[", "{"):
            return self._group({"(": ")", "[": "]", "{": "}"}[token.text])
        if token.kind == "sign" and token.text == "|":
            return symbolic().Abs(self._group("|"))
        if token.kind == "symbol":
            return self._symbol()
        if token.kind == "command":
            return self._command()
        raise Unreadable(f"{token.text!r} can't be read here")

    def _number(self) -> Any:
        """A number, with the fraction behind it where it is a mixed number: 3 1/2, 3\\frac12."""
        token = self._next()
        value = token.value or Fraction(0)
        if token.text.isdigit():
            value += self._mixed()
        return symbolic().Rational(value.numerator, value.denominator)

    def _mixed(self) -> Fraction:
        rest = [self._peek(i) for i in range(7)]
        kinds = [token.kind if token else "" for token in rest]
        texts = [token.text if token else "" for token in rest]
        if kinds[0] == "number" and rest[0] is not None and rest[0].spaced and texts[1] == "/" and kinds[2] == "number":
            top, bottom, used = texts[0], texts[2], 3
        elif (
            texts[:2] == ["frac", "{"]
            and kinds[2] == kinds[5] == "number"
            and texts[3:5] == ["}", "{"]
            and texts[6] == "}"
        ):
            top, bottom, used = texts[2], texts[5], 7
        elif texts[0] == "frac" and kinds[1] == "number" and len(texts[1]) == 2:
            top, bottom, used = texts[1][0], texts[1][1], 2
        elif texts[0] == "frac" and kinds[1:3] == ["number", "number"] and len(texts[1]) == len(texts[2]) == 1:
            top, bottom, used = texts[1], texts[2], 3
        else:
            if kinds[0] == "number":
                raise Unreadable("two numbers stand side by side")
            return Fraction(0)
        if not (top.isdigit() and bottom.isdigit() and int(top) < int(bottom)):
            if kinds[0] == "number":
                raise Unreadable(f"{top}/{bottom} behind a whole number is no part of it")
            return Fraction(0)
        self.at += used
        return Fraction(int(top), int(bottom))

    def _symbol(self) -> Any:
        name = self._next().text
        if self._is("_"):
            self._next()
            name += "_" + "".join(token.text for token in self._subscript())
        elif name in ("e", "i"):
            return symbolic().E if name == "e" else symbolic().I
        while self._is("'"):
            name += self._next().text
        return symbolic().Symbol(name)

    def _subscript(self) -> list[Token]:
        if not self._is("{"):
            return [self._next()]
        self._next()
        tokens = []
        while not self._is("}"):
            tokens.append(self._next())
        self._next()
        return tokens

    def _command(self) -> Any:
        name = self._next().text
        if name == "pi":
            return symbolic().pi
        if name == "infty":
            return symbolic().oo
        if name == "frac":
            top = self._argument(one_digit=True)
            return _divided(top, self._argument(one_digit=True))
        if name == "binom":
            top = self._argument(one_digit=True)
            return _binomial(top, self._argument(one_digit=True))
        if name == "sqrt":
            index = self._group("]") if self._is("[") else symbolic().Integer(2)
            value = self._argument()
            is_real = value.is_negative and index.is_Integer and index % 2 == 1  # sympy's is the complex root
            return -((-value) ** (1 / index)) if is_real else value ** (1 / index)
        if name in ("lfloor", "lceil"):
            value = self._sum()
            self._expect("rfloor" if name == "lfloor" else "rceil")
            return (symbolic().floor if name == "lfloor" else symbolic().ceiling)(value)
        if name in FUNCTIONS:
            return self._function(name)
        if name in _GREEK:
            self.tokens.insert(self.at, Token("symbol", name))
            return self._symbol()
        raise Unreadable(f"\\{name} is not known")

    def _function(self, name: str) -> Any:
        power = base = None
        for _ in range(2):
            if self._is("^") and power is None:
                self._next()
                power = self._argument()
            elif self._is("_") and base is None:
                self._next()
                base = self._argument()
        if name in ("min", "max", "gcd", "lcm"):
            raise Unreadable(f"\\{name} is not worked out")
        inverse = power == -1 and name in ("sin", "cos", "tan")
        argument = self._atom() if self._is("(", "{", "[") else self._unbracketed()
        if name in ("log", "lg", "ln"):
            value = symbolic().log(argument) / (
                symbolic().log(base) if base is not None else symbolic().log(10) if name == "lg" else 1
            )
        elif base is not None:
            raise Unreadable(f"\\{name} has no base")
        else:
            names = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
            value = getattr(symbolic(), ("a" + name) if inverse else names.get(name, name))(argument)
        return value if power is None or inverse else value**power

    def _unbracketed(self) -> Any:
        r"""The argument of \sin 2x: factors side by side, up to a sign."""
        value = self._signed_power()
        while (token := self._peek()) is not None and (token.kind == "symbol" or self._is("pi", "frac", "sqrt")):
            value = value * self._power()
        if self._is("/") and (after := self._peek(1)) is not None and after.kind == "number":
            self._next()
            value = _divided(value, self._power())
        return value


_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell",
}  # fmt: skip


def _divided(top: Any, bottom: Any) -> Any:
    if bottom == 0:
        raise Unreadable("divides by 0")
    return top / bottom


def _raised(base: Any, exponent: Any) -> Any:
    """base^exponent, unless the number has too many digits to be meant."""
    if base.is_number and exponent.is_number:
        size = symbolic().Abs(exponent).evalf(15) * symbolic().Max(
            1, symbolic().Abs(symbolic().log(symbolic().Abs(base) + symbolic().Rational(1, 10**9)).evalf(15))
        )
        if exponent.is_infinite or not size < 2.4 * MAX_DIGITS:
            raise Unreadable("is too large to be worked out")
        if base == 0 and not exponent.is_positive:
            raise Unreadable("divides by 0")
    return base**exponent


def _factorial(value: Any) -> Any:
    if value.is_number and not (value.is_Integer and 0 <= value <= 5000):
        raise Unreadable("is a factorial that isn't worked out")
    return symbolic().factorial(value)


def _binomial(top: Any, bottom: Any) -> Any:
    if top.is_number and not (top.is_Integer and 0 <= top <= 5000):
        raise Unreadable("is a binomial coefficient that isn't worked out")
    return symbolic().binomial(top, bottom)


_POINTS = [Fraction(p, q) for p, q in ((7, 5), (-11, 7), (23, 9), (-3, 8), (5, 13), (-29, 6), (41, 10), (8, 3))]


def equal(a: Any, b: Any) -> bool:
    """Whether two expressions are the same number, or the same at every point that is tried."""
    if a == b or (a.is_Rational and b.is_Rational):
        return bool(a == b)
    return all(_vanishes(x - y, x, y) for x, y in _at_points((a, b)))


def proportional(a: Any, b: Any, *, positive: bool) -> bool:
    """Whether a = c · b with one number c ≠ 0, which is above 0 where `positive`."""
    if a.free_symbols != b.free_symbols:
        return False
    ratios = [x / y for x, y in _at_points((a, b)) if not _vanishes(y, y, y)]
    if not ratios or any(not _vanishes(ratio - ratios[0], ratio, ratios[0]) for ratio in ratios):
        return False
    return bool(not _vanishes(ratios[0], 1, 1) and (not positive or ratios[0].as_real_imag()[0] > 0))


def _at_points(expressions: tuple[Any, Any]) -> list[tuple[Any, Any]]:
    """Both at eight points, to 50 digits; where they have no variables, once."""
    names = sorted(expressions[0].free_symbols | expressions[1].free_symbols, key=str)
    points = []
    for shift in range(len(_POINTS) if names else 1):
        values = {
            n: symbolic().Rational(*_POINTS[(shift + 3 * i) % len(_POINTS)].as_integer_ratio())
            for i, n in enumerate(names)
        }
        pair = tuple(symbolic().N(one.subs(values), 50) for one in expressions)
        if all(one.is_number and one.is_finite for one in pair):
            points.append(pair)
    if not points:
        raise Unreadable("has no value anywhere")
    return [pair for pair in points if all(one.is_real for one in pair)] or points


def _vanishes(difference: Any, a: Any, b: Any) -> bool:
    scale = max(abs(complex(symbolic().N(a, 15))), abs(complex(symbolic().N(b, 15))), 1e-30)
    return bool(abs(symbolic().N(difference, 20)) <= symbolic().Float(scale, 20) * symbolic().Float("1e-40", 20))
