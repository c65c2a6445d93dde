"""Plans as JSON text, both ways."""

import functools

from pydantic import TypeAdapter, ValidationError

from effcomp.errors import PlanError
from effcomp.plan.schema import SCHEMA_VERSION, Plan


@functools.cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def dump_plan(plan: Plan) -> str:
    """The plan as JSON; equal plans give equal text."""
    return _adapter().dump_json(plan).decode()


def load_plan(text: str) -> Plan:
    """Read what `dump_plan` writes. Raises PlanError saying what is wrong, and where."""
    try:
        plan = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise PlanError(f"not a plan: {where}: {first['msg']}") from None
    return check_plan(plan)


def check_plan(plan: Plan) -> Plan:
    """The plan, if it is of this version. Raises PlanError."""
    if plan.version != SCHEMA_VERSION:
        raise PlanError(f"the plan has version {plan.version}; this is version {SCHEMA_VERSION}")
    return plan
