from tests.scripts.tiny import world  # noqa: F401
