"""What some tests look at is not on every system."""

import sys

import pytest

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks at what only Linux has")
