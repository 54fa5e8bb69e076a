"""Write ``schema.json``, from which the types of the page are generated.

Run ``python make_schema.py``, then ``npm run types``. Needs pydantic.
"""

import json
from pathlib import Path

from pydantic import TypeAdapter

from featurewise.explorer.live import Reply, Request
from featurewise.explorer.schema import PageData


def make() -> str:
    """The JSON schema of ``PageData``, and of what the page sends to its server and gets back.

    All fields are there in what the library writes, and the page sends all fields.
    """
    schema = TypeAdapter(PageData).json_schema(mode="serialization")
    for record in (Request, Reply):
        found = TypeAdapter(record).json_schema(mode="serialization")
        schema["$defs"] |= found.pop("$defs", {})
        schema["$defs"][record.__name__] = found
    for record in [schema, *schema["$defs"].values()]:
        record["required"] = list(record["properties"])
        record.pop("description", None)
        for value in record["properties"].values():
            value.pop("title", None)
            value.pop("default", None)
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("schema.json").write_text(make(), encoding="utf-8")
