"""Products: a matrix on the right, transposed, is a linear layer's weight."""

from dataclasses import dataclass

from effcomp.ir import Value
from effcomp.ir.ops import nn, view
from effcomp.rewrite import AnyRule, Builder, Match, Pat, Rule, pat, var


@dataclass(frozen=True, slots=True)
class UseLinear(Rule[None]):
    """matmul(x, permute(w)) => linear(x, w), for a matrix w."""

    def pattern(self) -> Pat:
        turned = pat(view.permute, var("w"), dims=(1, 0)).with_other_users()
        return pat(nn.matmul, var("x"), turned)

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.add(nn.linear, m["x"], m["w"])


PRODUCTS: tuple[AnyRule, ...] = (UseLinear(),)
