"""The health of a plugin as a whole: the part of grpc.health.v1 that go-plugin's hosts use.

Rules of this module:

1. The two messages of grpc.health.v1 have one field each, and so the same bytes as the wrappers of a text and of a
   number: no other package is needed for them.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

__all__ = ["CHECK", "PLUGIN", "SERVICE", "SERVING", "Reply", "Request"]

Request = StringValue
Reply = Int32Value

SERVICE: Final = "grpc.health.v1.Health"
CHECK: Final = "Check"

# go-plugin's name for a plugin as a whole, and grpc.health.v1's number for SERVING.
PLUGIN: Final = "plugin"
SERVING: Final = 1
