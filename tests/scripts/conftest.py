from tests.scripts.tiny import finished, world  # noqa: F401
